#!/bin/sh
# RUSTC_WORKSPACE_WRAPPER: compiles our own crates so that libFuzzer sees which way an input took. Libraries are compiled as
# ever, and are the same files as those of every other build.
case " $* " in
*' --crate-name build_script_build '*) exec "$@" ;;
*' --crate-name ___ '*) exec "$@" ;;
*' --crate-name '*) ;;
*) exec "$@" ;;
esac
# On stable: the pass is LLVM's own. Without the address sanitizer, which is not; there is no unsafe code in what is tried.
exec "$@" -Copt-level=1 -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares
