# shellcheck shell=bash
# The frame of tests/run: sections with a heading and a time, and the lines that close the run. Sourced, not run.
#
# A section that fails does not stop the run, so one look at the log shows everything that is wrong; a section that
# rests on a failed one is not tried. What was not run is never silent: it closes the log with its reason.

section_rows=()    # "seconds|result|name", in order
failed_sections=() # names
passed_tests=0
failed_tests=0
skipped_tests=0

# section NAME COMMAND... runs the command in a subshell, where `set -e` holds, and notes how it went.
section() {
    local name=$1 started=$SECONDS result=0
    shift
    printf '\n=== %s ===\n' "$name"
    set +e
    (set -e; "$@") </dev/null
    result=$?
    set -e
    note_section "$name" "$((SECONDS - started))" "$result"
}

# section_after EARLIER NAME COMMAND... is a section that makes no sense when the earlier one has failed.
section_after() {
    local earlier=$1 name=$2
    shift
    if has_failed "$earlier"; then
        printf '\n=== %s ===\nnot tried: "%s" failed\n' "$name" "$earlier"
        note_section "$name" 0 1
    else
        section "$@"
    fi
}

note_section() {
    if [ "$3" -eq 0 ]; then
        section_rows+=("$2|ok|$1")
    else
        section_rows+=("$2|FAILED|$1")
        failed_sections+=("$1")
        printf '*** FAILED: %s\n' "$1"
    fi
}

has_failed() {
    local name
    for name in ${failed_sections[@]+"${failed_sections[@]}"}; do [ "$name" != "$1" ] || return 0; done
    return 1
}

# close_run prints the table, what was not run, and the count as the last line; its result is that of the run.
close_run() {
    local row result=0
    printf '\n=== where the time went ===\n'
    for row in "${section_rows[@]}"; do
        IFS='|' read -r seconds verdict name <<<"$row"
        printf '%6d s  %-6s  %s\n' "$seconds" "$verdict" "$name"
    done
    printf '%6d s  in all\n\n' "$SECONDS"
    close_not_run || result=1
    [ "${#failed_sections[@]}" -eq 0 ] || { printf 'FAILED: %s\n' "${failed_sections[@]}"; result=1; }
    [ "$failed_tests" -eq 0 ] || result=1
    printf '%d passed, %d failed%s\n' "$passed_tests" "$failed_tests" "$(skipped_words)"
    return "$result"
}

# A test that this machine cannot run at all (no root, no loop device) adds a line "what: why" to $MUSTER_NOT_RUN.
close_not_run() {
    [ -s "$MUSTER_NOT_RUN" ] || return 0
    sort -u "$MUSTER_NOT_RUN" | sed 's/^/!!! NOT RUN: /'
    [ "${MUSTER_REQUIRE_ALL:-}" = 1 ] || return 0
    echo "FAILED: MUSTER_REQUIRE_ALL=1 and something was not run"
    return 1
}

skipped_words() {
    [ "$skipped_tests" -eq 0 ] || printf ', %d skipped' "$skipped_tests"
}
