# Everything happens in .venv, which each target makes or brings up to date when it has to.
#   make demo|test|check|integrations|bench|clients|crash|schema|soak|fuzz|debug|tsan|wheel|build|clean
#   PYTHON=python3.12 chooses the interpreter of a new .venv

ifdef PYTHON
CHOSEN := $(PYTHON)
endif
PYTHON ?= python3
VENV ?= .venv
JOBS ?= $(shell nproc 2>/dev/null || echo 1)
PYTEST_ARGS ?=
BENCH_ARGS ?=
KEKTORDB_FUZZ_SECONDS ?= 60
export KEKTORDB_FUZZ_SECONDS PIP_DISABLE_PIP_VERSION_CHECK = 1

PY := $(VENV)/bin/python
SOURCES := setup.py $(wildcard kektordb/*.pyx kektordb/*.pxd kektordb/*.pxi)
STUBBED := $(patsubst kektordb/%.pyi,kektordb.%,$(wildcard kektordb/_*.pyi))
BUILD_LOG := build/build.log

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: demo test check integrations integrations-environment bench clients crash schema soak fuzz debug tsan wheel build clean always

demo: $(VENV)/.built $(VENV)/.extra-examples
	$(PY) examples/quickstart.py

test: $(VENV)/.built $(VENV)/.extra-test
	$(PY) -m pytest $(PYTEST_ARGS)

check: $(BUILD_LOG) $(VENV)/.extra-check,test
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	PATH="$(abspath $(VENV))/bin:$$PATH" cython-lint kektordb
	$(PY) -m mypy
	$(PY) -m mypy --platform win32 --cache-dir .mypy_cache/win32
	$(PY) -m mypy --platform darwin --cache-dir .mypy_cache/darwin
	$(if $(STUBBED),$(PY) -m mypy.stubtest --mypy-config-file pyproject.toml $(STUBBED))
	@! grep -nE '(^|[^[:alpha:]])warning: |performance hint' $(BUILD_LOG) || { echo 'check: the build must be silent'; exit 1; }
	@echo 'check: all clean'

bench: $(VENV)/.built $(VENV)/.bench
	$(PY) -m benchmarks.run $(BENCH_ARGS)

# The frameworks take half a gigabyte: they have an environment of their own, and `make test` skips what needs them.
space := $(subst ,, )
FRAMEWORKS := langchain llama_index haystack
BESIDE := build/integrations
integrations: integrations-environment
	$(BESIDE)/bin/python -m pytest $(or $(PYTEST_ARGS),-n $(JOBS)) $(FRAMEWORKS:%=tests/test_%.py)
	$(BESIDE)/bin/python -m pytest tests/test_examples.py -k '$(subst $(space), or ,$(FRAMEWORKS))'

integrations-environment: $(VENV)/.built
	$(MAKE) VENV=$(BESIDE) PYTHON=$(shell cat $(VENV)/.made) $(BESIDE)/.tools
	KEKTORDB_BUILT=1 $(BESIDE)/bin/python -m pip install -q --no-build-isolation -e .
	@touch $(BESIDE)/.built
	$(MAKE) VENV=$(BESIDE) $(BESIDE)/.extra-test,integrations
	$(BESIDE)/bin/python -c 'import haystack, langchain_tests, llama_index.core, pytest_asyncio'

# Every test marked "crash" in its long form: about an hour; KEKTORDB_CRASH_… choose other counts (docs/durability.md).
crash: $(VENV)/.built $(VENV)/.extra-test
	$(PY) -m pytest tests -m crash $(PYTEST_ARGS)

# The published clients of the original against our server. Their wheels are fetched, not kept; what cannot be had is an
# error here, and a line of text in .ci/run.
CLIENTS := 0.2.2 0.3.0 0.4.5 0.5.1 0.6.2
WHEELS := build/clients
clients: $(WHEELS)/.complete $(VENV)/.built $(VENV)/.extra-test
	KEKTORDB_CLIENT_WHEELS="$(abspath $(WHEELS))" $(PY) -m pytest -rs tests/test_official_clients.py $(PYTEST_ARGS)

$(WHEELS)/.complete: Makefile $(VENV)/.made
	@mkdir -p $(WHEELS)
	$(foreach version,$(CLIENTS),$(PY) -m pip download -q --no-deps -d $(WHEELS) kektordb-client==$(version) &&) touch $@

# Some 10,000 requests that are made of the description at /openapi.json, right and wrong ones; a few minutes.
schema: $(VENV)/.built $(VENV)/.extra-test
	KEKTORDB_SCHEMA_EXAMPLES=150 $(PY) -m pytest -s tests/test_schema.py $(PYTEST_ARGS)

# A writer that is saved each minute and killed each two, for SOAK_MINUTES.
SOAK_MINUTES ?= 30
soak: $(VENV)/.built
	$(PY) tests/soak.py $(SOAK_MINUTES)

# Every test marked "fuzz" reads KEKTORDB_FUZZ_SECONDS and goes on that long. Exit status 5: no test has the mark.
fuzz: $(VENV)/.built $(VENV)/.extra-test
	$(PY) -m pytest tests -m fuzz $(PYTEST_ARGS) || [ $$? -eq 5 ]

# The same tests on a sanitized build, in a copy with a .venv of its own: the build that is in use stays as it is.
# Every process, those that tests start included, writes what its sanitizers find to sanitizer.PID: one is a failure.
# libstdc++ goes in beside libasan, which otherwise cannot intercept exceptions thrown inside blosc2 and scipy. libubsan
# loses its log_path to libasan, and pytest would swallow what goes to stderr: so the path is set at Python's start.
debug: PRELOAD := asan ubsan stdc++
debug: export KEKTORDB_SANITIZE := address,undefined
debug: RUN = -X faulthandler -m pytest $(or $(PYTEST_ARGS),-n $(JOBS))
debug:
	$(sanitized-build)
	echo 'import ctypes; ctypes.CDLL("$(call library,ubsan)").__sanitizer_set_report_path(b"$(abspath build/debug/sanitizer)")' \
	    > "$$(build/debug/.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/sanitizer.pth"
	$(sanitized-run)

# Threads: without OpenMP, whose library is not instrumented; tests do with Python threads what its threads do.
tsan: PRELOAD := tsan
tsan: export KEKTORDB_SANITIZE := thread
tsan: export KEKTORDB_OPENMP := 0
THREADED = $(shell grep -lw threading tests/test_*.py)
tsan: RUN = -m pytest $(or $(PYTEST_ARGS),-n $(JOBS) $(THREADED))
tsan:
	$(sanitized-build)
	$(sanitized-run)

library = $(shell gcc -print-file-name=lib$(1).so)
define sanitized-build
	@for name in $(PRELOAD); do case "$$(gcc -print-file-name=lib$$name.so)" in /*) ;; \
	    *) echo "$@: gcc has no lib$$name.so (Debian: apt install gcc; Fedora: dnf install lib$$name)"; exit 1;; esac; done
	mkdir -p build/$@
	find build/$@ -type f ! -name '*.so' ! -path 'build/$@/build/*' ! -path 'build/$@/.venv/*' -delete
	tar -c --exclude=./.git --exclude=./build --exclude=./.venv --exclude='*.so' . | tar -x -C build/$@
	$(MAKE) -C build/$@ VENV=.venv build .venv/.extra-test
endef
define sanitized-run
	rm -f build/$@/sanitizer.*
	cd build/$@; PYTHONMALLOC=malloc UBSAN_OPTIONS=print_stacktrace=1 \
	    ASAN_OPTIONS=detect_leaks=0:log_path=$$PWD/sanitizer \
	    TSAN_OPTIONS=history_size=7:die_after_fork=0:suppressions=$$PWD/tests/tsan.supp:log_path=$$PWD/sanitizer \
	    LD_PRELOAD="$(foreach name,$(PRELOAD),$(call library,$(name)))" .venv/bin/python $(RUN); status=$$?; \
	    if cat sanitizer.* 2>/dev/null; then echo '$@: found by the sanitizers, see above'; exit 1; fi; exit $$status
endef

# The wheel in an environment of its own: what comes with it, whether it runs, whether programs that use it are typed.
wheel: $(VENV)/.built $(VENV)/.extra-check
	rm -rf build/lib build/lib.* build/wheel
	KEKTORDB_BUILT=1 $(PY) -m pip wheel -q --no-build-isolation --no-deps -w build/wheel .
	$(PY) tests/installed.py build/wheel/*.whl build/wheel/.venv

build: $(VENV)/.built

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f kektordb/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- .venv: stamps inside it say what has been done ---------------------------------------------------------------

# An explicit PYTHON that differs from the one .venv was made with makes it anew.
ifdef CHOSEN
ifneq ($(CHOSEN),$(shell cat $(VENV)/.made 2>/dev/null))
$(VENV)/.made: always
endif
endif

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { echo '$(PYTHON) not found: install Python 3.11 or newer'; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'Python 3.11 or newer is needed'; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { echo 'venv is missing: apt install python3-venv'; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@echo $(PYTHON) > $@

# The build's own needs, from pyproject.toml: in .venv, so that only what changed is compiled.
$(VENV)/.tools: pyproject.toml $(VENV)/.made
	$(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' > $@
	$(PY) -m pip install -q -r $@

$(VENV)/.built: $(SOURCES) $(VENV)/.tools
	$(PY) setup.py -q build_ext --inplace --parallel $(JOBS) $(if $(filter setup.py,$?),--force)
	KEKTORDB_BUILT=1 $(PY) -m pip install -q --no-build-isolation -e .
	@touch $@

# A build from nothing, whose output `check` reads; what it compiles is what the tests then use.
$(BUILD_LOG): $(SOURCES) $(VENV)/.tools
	@mkdir -p build
	CYTHON_FORCE_REGEN=1 $(PY) setup.py -q build_ext --inplace --parallel $(JOBS) --force > $@ 2>&1 || { cat $@; exit 1; }
	KEKTORDB_BUILT=1 $(PY) -m pip install -q --no-build-isolation -e .
	@touch $(VENV)/.built

# One by one: a system that does not install here is left out of the comparison.
$(VENV)/.bench: pyproject.toml $(VENV)/.made | $(VENV)/.built
	@$(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["bench"], sep="\n")' | \
	while read -r package; do \
	    $(PY) -m pip install -q "$$package" </dev/null || echo "bench: left out, does not install here: $$package"; \
	done
	@touch $@

# .extra-test, .extra-check,test …: the optional dependencies of pyproject.toml by name. Only these: to install the
# project itself again would compile everything again.
comma := ,
$(VENV)/.extra-%: pyproject.toml $(VENV)/.made | $(VENV)/.built
	$(PY) -c 'import sys, tomllib; extras = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; print(*(one for name in sys.argv[1:] for one in extras[name]), sep="\n")' $(subst $(comma), ,$*) > $@.txt
	$(PY) -m pip install -q -r $@.txt
	@touch $@
