# shellcheck shell=bash
# Adds up what the test runners say in their closing lines. Sourced, not run.

# count_tests LOG adds the counts of nextest ("Summary … 5 tests run: 4 passed, 1 failed, 0 skipped") and of cargo test
# ("test result: ok. 4 passed; 1 failed; 0 ignored; …") to the totals of the run. A test that timed out or could not be
# started has failed.
count_tests() {
    local log=$1
    passed_tests=$((passed_tests + $(sum_of passed "$log")))
    failed_tests=$((failed_tests + $(sum_of 'failed|timed out|exec failed' "$log")))
    skipped_tests=$((skipped_tests + $(sum_of 'skipped|ignored' "$log")))
}

# sum_of WORDS LOG adds every "NUMBER WORD" in the closing lines of a log.
sum_of() {
    [ -e "$2" ] || { echo 0; return; }
    { closing_lines "$2" | grep -oE "[0-9]+ ($1)" || true; } | awk '{ sum += $1 } END { print sum + 0 }'
}

closing_lines() {
    sed 's/\x1b\[[0-9;]*m//g' "$1" | grep -E '^ *Summary \[|^test result: ' || true
}
