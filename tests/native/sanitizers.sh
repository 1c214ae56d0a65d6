#!/usr/bin/env bash
# Builds the native tests with sanitizers and runs them on the CPU device: address and undefined behaviour in one build,
# threads in another. usage: sanitizers.sh [--whole] [asan] [tsan]; both if none is named. The last line is
# `N passed, N failed`. --whole runs every test instead of those that fit into every change's tests: more than an hour.
set -u
cd "$(dirname "$0")/../.."

passed=0
failed=0
whole=false
seconds=1500
if [ "${1:-}" = --whole ]; then
  whole=true
  seconds=14400
  shift
fi

# run NAME FILTER: runs the tests of artifacts/native/NAME and adds up what passed and failed.
run() {
  local name=$1 filter=$2 log=artifacts/native/$1/tests.log
  if [ "$whole" = true ]; then filter='*'; fi
  SSM_TEST_DEVICES=cpu timeout "$seconds" "artifacts/native/$name/bin/ssm_native_tests" --gtest_brief=1 --gtest_filter="$filter" \
    >"$log" 2>&1
  local status=$?
  local good bad
  good=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) tests\{0,1\}\.$/\1/p' "$log" | tail -1)
  bad=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) tests\{0,1\}, listed below:$/\1/p' "$log" | tail -1)
  good=${good:-0}
  bad=${bad:-0}
  # A report that ends the process, or one that only changes the exit status.
  if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
  if [ "$good" -eq 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
  if [ "$bad" -ne 0 ]; then tail -60 "$log"; fi
  echo "$name: $good passed, $bad failed"
  passed=$((passed + good))
  failed=$((failed + bad))
}

[ $# -gt 0 ] || set -- asan tsan
building=$(mktemp)
trap 'rm -f "$building"' EXIT
for name in "$@"; do
  if ! { cmake --preset "$name" >"$building" 2>&1 &&
    cmake --build "artifacts/native/$name" --target ssm_native_tests >>"$building" 2>&1; }; then
    tail -60 "$building"
    echo "$name: the build failed"
    failed=$((failed + 1))
  elif [ "$name" = asan ]; then
    # What every operation has as Quick passes through all of its kernels, views and cuts in small.
    ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
      run asan 'Core*:Devices/Lifetime.*:*.Quick/cpu_float32:*.Quick/cpu_complex64:*.*Empty*/cpu_float32'
  elif [ "$name" = tsan ]; then
    # Threads meet in every operation's Quick, whose variations are numbers of them, and contexts side by side: one operation
    # for each way of meeting.
    contexts=
    for operation in LinearRecurrence SelectiveScan Ssd CausalConv; do
      contexts+=":Devices/$operation.ContextsAreIndependent/cpu_float32"
    done
    TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1 \
      run tsan "Core*:*.Quick/cpu_float32:*.Quick/cpu_complex64:Devices/Lifetime.*$contexts"
  else
    echo "$name: asan or tsan expected"
    failed=$((failed + 1))
  fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
