# A thin layer over meson, ninja and pytest: what each target does is in the program it calls.
BUILD ?= build
PYTHON := .venv/bin/python
SOURCES = $(shell git ls-files '*.c' '*.h')

.PHONY: all build check demo deps dist-check format lint bench stress fuzz docs clean \
    smoke-use-cases smoke-cold-start-validation smoke-repro-fix-loop smoke-parallel-workspaces \
    smoke-untrusted-inspection smoke-review-eval

all: build

# Installs what is missing: Debian packages by name, Python packages into .venv.
deps:
	@packaging/deps.sh

# Leaves the programs in $(BUILD)/bin, runnable from the tree.
build: deps $(BUILD)/build.ninja
	@ninja -C $(BUILD)

$(BUILD)/build.ninja:
	@meson setup $(BUILD)

# Every test there is, and one line at the end that counts them.
check: build
	@$(PYTHON) tests/run_checks.py --build $(BUILD)

# A workspace, a bug, and a model that finds it.
demo: build
	@examples/demo.sh $(BUILD)/bin

# The five stories of docs/use-cases, in real guests: make smoke-use-cases, or one of them by its name.
# USE_CASE_ENVIRONMENT chooses the environment, USE_CASE_ISOLATION=vm or =container what guests are.
STORIES := cold-start-repo-validation repro-fix-loop parallel-workspaces untrusted-inspection \
    review-eval-workflows
smoke-use-cases: build
	@$(SMOKE)
smoke-cold-start-validation smoke-repro-fix-loop smoke-parallel-workspaces smoke-untrusted-inspection \
smoke-review-eval: build
	@$(SMOKE) $(filter $(subst -validation,,$(@:smoke-%=%))%,$(STORIES))
SMOKE = PYTHONPATH=clients/python:tests examples/with-daemon.sh $(BUILD)/bin $(PYTHON) -m stories \
    $(addprefix --isolation ,$(USE_CASE_ISOLATION))

# The release tarball: the same bytes each time, and it builds and passes its unit tests.
dist-check: build
	@packaging/dist-check.sh $(BUILD)

format: deps
	@clang-format -i $(SOURCES)

lint: build
	@$(PYTHON) tests/run_checks.py --build $(BUILD) format tidy lint

# Figures beside those of the peers that are installed.
bench: build
	@$(PYTHON) tests/bench/run.py --bin $(BUILD)/bin

# The crash tests at length: make stress ROUNDS=5000 SEED=7; and what is built of debian:12-build,
# which is pulled for it where it is missing.
stress: build
	@HEARTH_TEST_PULL=1 $(PYTHON) -m pytest -p no:cacheprovider tests/integration/test_environments.py
	@HEARTH_STRESS_ROUNDS=$(or $(ROUNDS),1000) HEARTH_STRESS_SEED=$(or $(SEED),1) \
	    $(PYTHON) -m pytest -p no:cacheprovider --timeout 0 -m "stress or rounds" tests

# The fuzz targets, each for so many seconds: make fuzz SECONDS=60
fuzz:
	@packaging/deps.sh clang
	@[ -d $(BUILD)-fuzz ] || CC=clang meson setup $(BUILD)-fuzz -Dfuzz=libfuzzer \
	    -Db_sanitize=address,undefined -Db_lundef=false
	@ninja -C $(BUILD)-fuzz
	@tests/fuzz/run.sh $(BUILD)-fuzz $(or $(SECONDS),60)

# What is printed from the operation table: docs/api.md
docs: build
	@$(BUILD)/bin/hearthd --describe=markdown >$(BUILD)/api.md
	@mv $(BUILD)/api.md docs/api.md

clean:
	rm -rf $(BUILD) $(BUILD)-sanitize $(BUILD)-fuzz
