#!/usr/bin/env bash
# test.sh - install what is missing, build, run every test; non-zero if anything fails.
#
# The full run is what CI runs.  Slow sweeps are behind options of this script.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage="usage: scripts/test.sh [options]
  (no option)     Release and ASan+UBSan builds, all tests in both; arithmetic on 64-bit Arm, in an
                  emulator; instructions counted; and the demo script
  --quick         the Release build's tests only
  --only REGEX    of these, those whose names match
  --llama PYTHON  then compare logits with llama.cpp's; that Python has llama-cpp-python and numpy
  --reference N   then compare N random checkpoints, tokenizers, conversations and faults with what
                  transformers, tokenizers and Jinja make of them (tests/reference; torch and the like
                  from PyPI into build/reference-venv, unless SWARM_PYTHON has them)
  --fuzz SECONDS  then fuzz every target that long with libFuzzer (installs clang)
  --chaos         then every bad line ten times, a flipped bit at every token (docs/reliability.md)
  --kills         then kill a stage, and the coordinator, at every token of an answer and in each phase,
                  and measure the pauses (docs/healing.md)
  --store-kills N then kill -9 imports and fetches, N times in all, and look at the store each time
  --clients       then use the gateway through OpenAI's libraries (from PyPI and npm) and curl
  --soak MINUTES  then ask for so long while nodes die, come back and join
  --site          then build the documentation site (MkDocs, from PyPI) into build/site
  --sim MINUTES   then as many simulated swarms as fit (docs/simulator.md)
  --web           then the gateway's page in headless Chromium (installs it, and Node.js packages)
  --sim-day PCS   then a simulated day of so many home PCs, 20 to 1,024
  --package       then build Debian packages and tarball twice, install, use, remove and purge them in a
                  bare Debian (as root; docs/install.md)"
package= only=.

quick= fuzz=0 llama= reference= chaos= soak= kills= deaths= sim= sim_day= site= clients= web=
while [ $# -gt 0 ]; do
    case $1 in
    -h | --help) echo "$usage"; exit 0 ;;
    --quick) quick=1 ;;
    --only) [ $# -ge 2 ] || fail "--only needs a regular expression"; quick=1 only=$2; shift ;;
    --llama) [ $# -ge 2 ] || fail "--llama needs a Python"; llama=$2; shift ;;
    --fuzz) [ $# -ge 2 ] || fail "--fuzz needs seconds"; fuzz=$2; shift ;;
    --reference) [ $# -ge 2 ] || fail "--reference needs a number"; reference=$2; shift ;;
    --chaos) chaos=1 ;;
    --kills) deaths=1 ;;
    --site) site=1 ;;
    --clients) clients=1 ;;
    --web) web=1 ;;
    --soak) [ $# -ge 2 ] || fail "--soak needs minutes"; soak=$2; shift ;;
    --sim) [ $# -ge 2 ] || fail "--sim needs minutes"; sim=$2; shift ;;
    --sim-day) [ $# -ge 2 ] || fail "--sim-day needs a number of PCs"; sim_day=$2; shift ;;
    --package) package=1 ;;
    --store-kills) [ $# -ge 2 ] || fail "--store-kills needs a number"; kills=$2; shift ;;
    *) fail "unknown option $1 ($usage)" ;;
    esac
    shift
done

install_packages "${packages[@]}" iproute2 nftables python3 python3-yaml curl
jobs=$(nproc)

# Another source's Node is fine, and Debian's cannot stand beside it.
install_node() { { command -v node && command -v npm; } >/dev/null || install_packages nodejs npm; }

# All tests.  Those of real processes have limits of time and share this machine with others: one that
# fails so is run once more, alone, and must pass then; both are said.  Nothing else has a second try.
run_ctest() {
    local failed=$1/Testing/Temporary/LastTestsFailed.log
    rm -f "$failed"
    ctest --test-dir "$1" -R "$only" --output-on-failure --no-tests=error -j "$jobs" && return
    [ -s "$failed" ] && ! grep -qv ':swarm_' "$failed" || return 1
    say "these failed beside others; once more, alone: $(sed 's/.*://' "$failed" | tr '\n' ' ')"
    ctest --test-dir "$1" --rerun-failed --output-on-failure -j 1
}

build "$root/build"
say "tests, Release build"
run_ctest "$root/build"

if [ -z "$quick" ]; then
    build "$root/build-asan" -DCMAKE_BUILD_TYPE=Debug -DSANITIZE=address,undefined
    say "tests, ASan and UBSan build"
    run_ctest "$root/build-asan"
fi

# The NEON tables, and whether a whole model gives the bits there that it gives here.
if [ -z "$quick" ] && [ "$(uname -m)" = x86_64 ]; then
    if (install_packages gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user-static); then
        build "$root/build-aarch64" --toolchain "$root/cmake/aarch64.cmake" -DARITHMETIC_ONLY=ON
        say "tests of arithmetic, build for aarch64 in qemu"
        run_ctest "$root/build-aarch64"
    else
        [ -z "${CI:-}" ] || fail "a continuous integration run needs the tests for aarch64"
        say "SKIPPED: the tests for aarch64, for want of a cross compiler and qemu"
    fi
fi

[ -n "$quick" ] || "$root/scripts/count.sh"

if [ -z "$quick" ]; then
    say "the demo"
    "$root/tests/test_demo.sh"
fi

if [ -n "$site" ]; then
    install_packages python3-venv
    say "the documentation site"
    [ -x "$root/build/site-venv/bin/mkdocs" ] || python3 -m venv "$root/build/site-venv"
    "$root/build/site-venv/bin/pip" install -q mkdocs-material
    (cd "$root" && NO_MKDOCS_2_WARNING=1 "$root/build/site-venv/bin/mkdocs" build --strict -q)
    say "the site is in build/site"
fi

if [ -n "$llama" ]; then
    say "our models in llama.cpp"
    status=0
    "$llama" "$root/tests/llama.py" "$root/build/bin" "$root" || status=$?
    [ $status -eq 0 ] || [ $status -eq 77 ] || fail "our GGUF files mean something else to llama.cpp"
fi

if [ -n "$reference" ]; then
    python=${SWARM_PYTHON:-$root/build/reference-venv/bin/python}
    if [ -z "${SWARM_PYTHON:-}" ]; then
        install_packages python3-venv
        [ -x "$python" ] || python3 -m venv "$root/build/reference-venv"
        "$python" -m pip install -q --disable-pip-version-check \
            'transformers==5.23.*' 'tokenizers==0.23.*' 'torch>=2.13' jinja2
    fi
    say "$reference random checkpoints, tokenizers, conversations and faults against the reference"
    "$python" -W ignore "$root/tests/reference" "$root/build/bin" "$root" "$reference"
fi

if [ "$fuzz" -gt 0 ]; then
    install_packages clang-14 libclang-rt-14-dev
    build "$root/build-fuzz" -DCMAKE_C_COMPILER=clang-14 -DFUZZ=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo
    for target in "$root"/build-fuzz/bin/fuzz_*; do
        name=$(basename "$target")
        say "fuzzing $name for $fuzz s"
        mkdir -p "$root/build-fuzz/corpus/$name"
        "$target" -max_total_time="$fuzz" -print_final_stats=1 -verbosity=0 \
            "$root/build-fuzz/corpus/$name" "$root/tests/fuzz/corpus/${name#fuzz_}"
    done
fi
if [ -n "$clients" ]; then
    install_packages python3-venv curl
    install_node
    say "OpenAI's own clients, into build/clients"
    mkdir -p "$root/build/clients"
    [ -x "$root/build/clients/bin/python" ] || python3 -m venv "$root/build/clients"
    "$root/build/clients/bin/python" -m pip install --quiet --disable-pip-version-check openai
    npm install --silent --no-audit --no-fund --prefix "$root/build/clients/npm" openai
    SWARM_PYTHON=$root/build/clients/bin/python SWARM_OPENAI_JS=$root/build/clients/npm \
        "$root/tests/swarm/test_gateway.sh" "$root/build/bin" "$root"
    SWARM_PYTHON=$root/build/clients/bin/python \
        "$root/tests/docs/run.py" "$root/build/bin" "$root" docs/gateway.md docs/api.md
fi
if [ -n "$deaths" ]; then
    say "kills at every token and in each phase"
    "$root/tests/swarm/test_healing.sh" "$root/build/bin" "$root" all
    "$root/tests/swarm/test_resume.sh" "$root/build/bin" "$root" all
    "$root/tests/swarm/test_healing.sh" "$root/build/bin" "$root" pauses
fi

if [ -n "$chaos" ]; then
    say "bad lines, all of them"
    "$root/tests/swarm/test_chaos.sh" "$root/build/bin" "$root" all
fi
if [ -n "$web" ]; then
    install_packages chromium
    install_node
    say "the page in a browser"
    mkdir -p "$root/build/web"
    cp "$root/tests/web/package.json" "$root/build/web/"
    (cd "$root/build/web" && PUPPETEER_SKIP_DOWNLOAD=1 npm install --silent --no-audit --no-fund)
    "$root/tests/swarm/test_web.sh" "$root/build/bin" "$root" "$root/build/web/node_modules" "$root/build/web/pictures"
fi
if [ -n "$kills" ]; then
    say "stores killed $kills times"
    SWARM_KILLS=$((kills / 2)) "$root/tests/swarm/test_store.sh" "$root/build/bin" "$root"
    SWARM_KILLS=$((kills - kills / 2)) "$root/tests/swarm/test_fetch.sh" "$root/build/bin" "$root"
fi
if [ -n "$soak" ]; then
    say "churn for $soak minutes"
    "$root/tests/swarm/test_soak.sh" "$root/build/bin" "$root" $((soak * 60))
fi
if [ -n "$sim" ]; then
    say "simulated swarms, $sim minutes on each of $jobs cores"
    pids=()
    for ((i = 1; i <= jobs; i++)); do
        "$root/build/bin/sim" --minutes "$sim" --from "$i" --step "$jobs" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
fi

if [ -n "$sim_day" ]; then
    say "a simulated day of $sim_day home PCs"
    "$root/build/bin/sim_day" "$sim_day" 25
fi
if [ -n "$package" ]; then
    say "packages"
    status=0
    "$root/tests/install/test_package.sh" || status=$?
    [ $status -eq 0 ] || [ $status -eq 77 ] || fail "the packages are not as they should be"
fi
say "all tests passed"
