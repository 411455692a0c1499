# shellcheck shell=bash
# A PostgreSQL of the tests' own, from the Debian package. Sourced, not run.
#
# It lives in the scratch folder and on a Unix socket in it: there is no port that somebody else could take, and nobody
# reaches it from outside. It syncs nothing, because nothing in it outlives the run. Its texts are sorted as a language
# does it, as on most machines that it is installed on, so that nobody comes to rely on the order of bytes.

# postgres_url FOLDER is what MUSTER_POSTGRES holds: the URL of the administrator.
postgres_url() {
    echo "postgres://muster@localhost/postgres?host=$1"
}

start_postgres() {
    local folder=$1 programs
    local -a options=(-c "listen_addresses=''" -c "unix_socket_directories='$folder'" -c fsync=off -c max_connections=300)
    programs=$(postgres_programs)
    mkdir -p "$folder"
    # Its own user has to get there.
    [ "$(id -u)" -ne 0 ] || { chmod 711 "$(dirname "$folder")" && chown postgres: "$folder"; }
    as_postgres "$programs/initdb" --pgdata "$folder/data" --username muster --auth trust --encoding UTF8 \
        --locale-provider icu --icu-locale en-US --no-locale --no-sync >/dev/null
    as_postgres "$programs/pg_ctl" --pgdata "$folder/data" --log "$folder/server.log" --wait --silent \
        --options "${options[*]}" start || { as_postgres cat "$folder/server.log"; return 1; }
    "$programs/postgres" --version
}

# stop_postgres FOLDER ends it, whatever is still connected; nothing happens where none runs.
stop_postgres() {
    [ ! -e "$1/data/postmaster.pid" ] ||
        as_postgres "$(postgres_programs)/pg_ctl" --pgdata "$1/data" --mode immediate --silent stop
}

# Debian keeps them out of the PATH, in a folder for each version.
postgres_programs() {
    local found
    found=$(find /usr/lib/postgresql -path '*/bin/initdb' 2>/dev/null | sort -V | tail -n 1)
    [ -n "$found" ] || fail "no PostgreSQL in /usr/lib/postgresql: install the Debian package postgresql"
    dirname "$found"
}

# It refuses to run as root.
as_postgres() {
    if [ "$(id -u)" -eq 0 ]; then (cd / && runuser -u postgres -- "$@"); else "$@"; fi
}
