#!/usr/bin/env bash
# Runs the GPU tests beside it, then the benches, and writes their logs, environment.json and bench.json: ./run.sh [RESULTS]
# (default: ./results). Needs an NVIDIA driver, bash and libcublas (CUDA_HOME, the system's, or that of a Python package), and for
# the comparison libcudnn 9 from the same places. Exit status 0: all passed.
# GATEFOLD_TEST_TIMEOUT: seconds (1800) that one executable may take. GATEFOLD_BENCH_SECONDS: seconds (480) for the benches, 0 for none.
# GATEFOLD_BENCH_ARGUMENTS: further ones of theirs, such as --smoke.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "${1:-results}" || exit 1
results=$(cd "${1:-results}" && pwd)
shopt -s nullglob

passed=0 failed=0 skipped=0
finish() {
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
    exit
}

# Whether the loader finds a library by itself; else its folder goes behind what LD_LIBRARY_PATH says already. `found` says where.
# library NAME VERSION…
library_in() {
    local folder=$1 name=$2 version
    for version in "${@:3}"; do [ -e "$folder/lib$name.so.$version" ] && return; done
    [ -e "$folder/lib$name.so" ]
}
library() {
    local name=$1 folder folders=() listed version
    IFS=: read -ra folders <<<"${LD_LIBRARY_PATH:-}"
    for folder in ${folders[@]+"${folders[@]}"}; do
        [ -n "$folder" ] && library_in "$folder" "$@" && found=$folder && return
    done
    listed=$({ ldconfig -p || /sbin/ldconfig -p; } 2>/dev/null)
    for version in "${@:2}"; do
        case $listed in *"lib$name.so.$version"*) found="the system's" && return ;; esac
    done
    folders=()
    for folder in "${CUDA_HOME:-}" "${CUDA_PATH:-}" /usr/local/cuda /usr/local/cuda-1[23]* /opt/cuda; do
        [ -n "$folder" ] && folders+=("$folder/lib64" "$folder/lib" "$folder/targets/x86_64-linux/lib")
    done
    for folder in $(python3 -c 'import site, sys; print(*site.getsitepackages(), site.getusersitepackages(), *sys.path, sep="\n")' 2>/dev/null) \
        "${VIRTUAL_ENV:-/nonexistent}"/lib/python3*/site-packages "${CONDA_PREFIX:-/opt/conda}"/lib/python3*/site-packages \
        /usr/lib/python3*/dist-packages /usr/local/lib/python3*/{dist,site}-packages ~/.local/lib/python3*/site-packages; do
        folders+=("$folder"/nvidia/*/lib)
    done
    for folder in ${folders[@]+"${folders[@]}"}; do
        if library_in "$folder" "$@"; then
            found=$folder
            export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
            return
        fi
    done
    return 1
}
if ! library cublas 13 12; then
    echo "run.sh: there is no libcublas.so.13 or .12: set CUDA_HOME, or pip install nvidia-cublas" >&2
    failed=1
    finish
fi
cublas=$found
cudnn=""
if library cudnn 9; then
    cudnn=$found
    # One of cuDNN's algorithms compiles its kernels; without a compiler it refuses.
    library nvrtc 13 12 || true
fi

if ! environment=$("$here/bin/gpu-environment" 2>"$results/environment.log"); then
    echo "run.sh: $(<"$results/environment.log")" >&2
    failed=1
    finish
fi
build=$(<"$here/build.json")
build=${build#\{} build=${build%\}}
echo "{\"date\":\"$(date -u +%FT%TZ)\",$build,\"cublas_from\":\"$cublas\",\"cudnn_from\":\"$cudnn\",${environment#\{}" >"$results/environment.json"
cat "$results/environment.json"
# In full, where it is there; nothing depends on it.
nvidia-smi -q >"$results/nvidia-smi.txt" 2>/dev/null || rm -f "$results/nvidia-smi.txt"

# read_log FILE: counts what the harness says. A test that says that it is skipped has not passed.
read_log() {
    local line name summaries=0 ok=0
    local -A skips=() failures=()
    while IFS= read -r line; do
        case $line in
            'skipped: '*': '*)
                name=${line#skipped: }
                skips[${name%%: *}]=yes
                ;;
            'devices: '*)
                if [[ $line != *cuda* ]]; then
                    echo "  did not run on the GPU: $line"
                    failed=$((failed + 1))
                fi
                ;;
            'parity: '*) echo "  $line" ;;
            'test '*' ... FAILED')
                echo "  $line"
                name=${line#test }
                failures[${name% ... FAILED}]=yes
                ;;
        esac
        if [[ $line =~ ^'test result: '[a-zA-Z]+'. '([0-9]+)' passed; '([0-9]+)' failed; '([0-9]+)' ignored' ]]; then
            summaries=$((summaries + 1)) ok=$((ok + BASH_REMATCH[1]))
            failed=$((failed + BASH_REMATCH[2])) skipped=$((skipped + BASH_REMATCH[3]))
        fi
    done <"$1"
    [ $summaries -gt 0 ] || return 1
    for name in ${skips[@]+"${!skips[@]}"}; do
        [ -n "${failures[$name]:-}" ] || ok=$((ok - 1)) skipped=$((skipped + 1))
    done
    passed=$((passed + ok))
}

export GATEFOLD_PARITY_CASES=$here/fixtures GATEFOLD_TEST_DATA=$here/data
while read -r name filter; do
    echo "$name"
    log=$results/$name.log before=$failed start=$SECONDS
    # shellcheck disable=SC2086 # no filter: no argument
    (cd "$results" && timeout "${GATEFOLD_TEST_TIMEOUT:-1800}" "$here/tests/$name" --show-output $filter) >"$log" 2>&1
    status=$?
    read_log "$log" || echo "  ended without a result"
    # A crash, a time-out, a fault that only the exit status tells.
    if [ $status != 0 ] && [ "$failed" = "$before" ]; then
        failed=$((failed + 1))
    fi
    [ $status = 0 ] || echo "  exit status $status; see $log"
    echo "  ($((SECONDS - start)) s)"
done <"$here/tests/list"

seconds=${GATEFOLD_BENCH_SECONDS:-480}
case $seconds in
    *[!0-9]*)
        echo "run.sh: GATEFOLD_BENCH_SECONDS=$seconds is no number of seconds" >&2
        failed=$((failed + 1))
        finish
        ;;
esac
if [ "$seconds" = 0 ]; then
    echo "skipped: bench: GATEFOLD_BENCH_SECONDS=0"
    skipped=$((skipped + 1))
    finish
fi
echo bench
log=$results/bench.log start=$SECONDS
rm -f "$results/bench.json"
if [ -z "$cudnn" ]; then
    echo "  skipped: cuDNN: there is no libcudnn.so.9: set CUDA_HOME, or pip install nvidia-cudnn-cu13"
    skipped=$((skipped + 1))
fi
commit=${build#*\"commit\":\"} commit=${commit%%\"*}
# shellcheck disable=SC2086 # several arguments, or none
(cd "$results" && GATEFOLD_COMMIT=$commit timeout $((seconds + 300)) "$here/bin/bench" --seconds "$seconds" --output "$results/bench.json" \
    ${GATEFOLD_BENCH_ARGUMENTS:-}) >"$log" 2>&1
status=$?
grep -E '^(WRONG|[0-9]+ rows)' "$log" | sed 's/^/  /'
if [ $status = 0 ] && [ -s "$results/bench.json" ]; then
    passed=$((passed + 1))
else
    echo "  exit status $status; see $log"
    failed=$((failed + 1))
fi
echo "  ($((SECONDS - start)) s)"
finish
