#!/usr/bin/env bash
# Runs fuzz targets one after the other and prints a row for each. `run.sh SECONDS [TARGET...]`: so long each, or all together
# with SECONDS as `60/all`. What is found new joins a corpus under target/; the one in git grows by `run.sh merge` alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=bgp/fuzz
work=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
for_each=${1:-300}
shift || true

# The same packages and features as in every other build of the workspace: libraries are there already.
RUSTC_WORKSPACE_WRAPPER=$PWD/$here/instrument.sh cargo build --locked --workspace --bin cambric-fuzz --features cambric-fuzz/libfuzzer
program=${CARGO_TARGET_DIR:-$PWD/target}/debug/cambric-fuzz

mapfile -t all < <(sed -n 's/^    ("\([a-z_]*\)", .*/\1/p' $here/src/lib.rs)
targets=("${@:-${all[@]}}")
if [[ $for_each == */all ]]; then for_each=$((${for_each%/all} / ${#targets[@]})); fi

failed=()
printf '%-16s %10s %8s %8s %8s %6s\n' target executions a-second edges corpus new
for target in "${targets[@]}"; do
    kept=$here/corpus/$target found=$here/found/$target
    own=$work/corpus/$target out=$work/findings/$target
    mkdir -p "$own" "$out"
    inputs=("$own")
    for folder in "$kept" "$found"; do [[ ! -d $folder ]] || inputs+=("$folder"); done
    if [[ $for_each == merge ]]; then
        mkdir -p "$work/merged/$target"
        CAMBRIC_FUZZ=$target "$program" -merge=1 -rss_limit_mb=2048 "$work/merged/$target" "${inputs[@]}" 2>"$work/$target.log"
        # Of all sizes, as far as the room in git goes.
        rm -rf "$kept" && mkdir -p "$kept"
        find "$work/merged/$target" -type f -printf '%s %p\n' | sort -n |
            awk -v most=150 -v octets=20000 '
                { size[NR] = $1; path[NR] = $2 }
                END { for (i = 1; i <= NR; i += int((NR - 1) / most) + 1) if ((sum += size[i]) <= octets) print path[i] }' |
            xargs -r mv -t "$kept"
        rm -rf "$work/merged/$target"
        printf '%-16s %s inputs, %s octets\n' "$target" "$(ls "$kept" | wc -l)" "$(cat "$kept"/* | wc -c)"
        continue
    fi
    status=0
    CAMBRIC_FUZZ=$target "$program" -max_total_time="$for_each" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$out/" "${inputs[@]}" >"$work/$target.log" 2>&1 || status=$?
    awk -v target="$target" '
        /cov: /                              { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "corp:") corp = $(i + 1) } }
        /stat::number_of_executed_units:/    { executed = $2 }
        /stat::average_exec_per_sec:/        { speed = $2 }
        /stat::new_units_added:/             { added = $2 }
        END { printf "%-16s %10d %8d %8d %8s %6d\n", target, executed, speed, cov, corp, added }' "$work/$target.log"
    if ((status != 0)); then
        failed+=("$target")
        tail -n 30 "$work/$target.log" >&2
        echo "$target: run it again with CAMBRIC_FUZZ=$target $program FILE, of $out" >&2
    fi
done
if ((${#failed[@]})); then
    echo "failed: ${failed[*]}" >&2
    exit 1
fi
