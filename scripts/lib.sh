# shellcheck shell=bash
# What the scripts share: messages, and steps that show that they are alive.
#
# step LABEL LOG COMMAND… runs the command with its output in the file LOG. On a terminal one line
# shows the time so far and the last line of the output; elsewhere a line is printed when the step
# begins, every minute, and when it ends. When the command fails, the end of its output is shown.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export root
ticker=""

say() { printf '%s\n' "$*"; }
fail() {
    printf 'weir: %s\n' "$*" >&2
    exit 1
}

# Returns to the start of the line and clears it; empty where there is no terminal.
clear_line=""
if [[ -t 1 ]]; then clear_line=$'\r\033[K'; fi

# The last line of a log that is still being written, cut to what fits beside the label.
last_line() {
    local width=$(($(tput cols 2>/dev/null || echo 80) - $2))
    ((width > 10)) || return 0
    tail -c 400 "$1" 2>/dev/null | tr '\r' '\n' | grep -v '^ *$' | tail -n 1 \
        | tr -cd '[:print:]' | cut -c "1-$width"
}

# Shows that a step is alive until it is killed or the script is gone.
tick() {
    local label=$1 log=$2 seconds=0
    while sleep 1 && kill -0 $$ 2>/dev/null; do
        seconds=$((seconds + 1))
        if [[ -n $clear_line ]]; then
            printf '%s  %s  %d s  %s' "$clear_line" "$label" "$seconds" \
                "$(last_line "$log" $((${#label} + 14)))"
        elif ((seconds % 60 == 0)); then
            printf '  %s: %d s so far\n' "$label" "$seconds"
        fi
    done
}

stop_ticker() {
    if [[ -n $ticker ]]; then
        kill "$ticker" 2>/dev/null || true
        wait "$ticker" 2>/dev/null || true
        ticker=""
        printf '%s' "$clear_line"
    fi
}

step() {
    local label=$1 log=$2 started=$SECONDS status=0
    shift 2
    mkdir -p "$(dirname "$log")"
    : >"$log"
    [[ -n $clear_line ]] || say "  $label"
    tick "$label" "$log" &
    ticker=$!
    "$@" >"$log" 2>&1 || status=$?
    stop_ticker
    if ((status == 0)); then
        say "  $label: $((SECONDS - started)) s"
    else
        say "  $label: FAILED after $((SECONDS - started)) s"
    fi
    return "$status"
}

# The end of a failed step's output.
show_log() {
    say "  --- the end of ${1#"$root"/}" >&2
    tail -n "${2:-40}" "$1" | sed 's/^/  | /' >&2
}

# retry ATTEMPTS COMMAND…: networks have hiccups; waits 2, 4, 8… seconds in between.
retry() {
    local attempts=$1 attempt pause=2
    shift
    for ((attempt = 1; ; attempt++)); do
        "$@" && return 0
        ((attempt < attempts)) || return 1
        echo "attempt $attempt of $attempts failed; the next one starts in $pause s"
        sleep "$pause"
        pause=$((pause * 2))
    done
}
