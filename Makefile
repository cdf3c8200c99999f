# Everything a bare Debian 12 machine with python3 and make needs. `make help` lists the targets.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Tests side by side: those with real processes wait for them half of the time.
TESTERS ?= $(shell echo $$((2 * $$(nproc))))
READY  := $(VENV)/.ready
CARDS  := $(VENV)/.cards
# Card readers: the service with virtual readers, what pyscard is compiled with, and readers and a card nobody here wrote.
CARD_PACKAGES := pcscd vsmartcard-vpcd libpcsclite-dev gcc libc6-dev pkg-config \
	opensc pcsc-tools vsmartcard-vpicc python3-pycryptodome
# Tests start hundreds of processes: each would compile the project anew, and every tester all tests.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run serve test check bench newcomer setup setup-cards texts lock clean

help:
	@sed -n 's/^## //p' Makefile

## setup   make .venv from requirements.lock (hashes checked) and install the project into it
setup: $(READY)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "etc-gateway needs Python 3.11 or newer / 需要 Python 3.11 或更新版本: set PYTHON=/path/to/python3.11"; \
			exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null \
		|| { [ "$$(id -u)" = 0 ] && apt-get update -q && DEBIAN_FRONTEND=noninteractive \
			apt-get install -q -y --no-install-recommends python3-venv; } \
		|| { echo "Python's venv module is missing / 缺少 Python 的 venv 模块"; \
			echo "run / 请执行 'sudo apt-get update && sudo apt-get install python3-venv'"; \
			echo "then make again / 然后重新执行 make"; exit 1; }
	@echo "setup: making $(VENV) / 正在创建 $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@echo "setup: fetching $$(grep -c '^[a-z].*==' requirements.lock) packages, a minute or two / 正在下载软件包,约一两分钟"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@echo "setup: installing the project / 正在安装本项目"
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

## setup-cards  card readers over PC/SC: pyscard, and the Debian packages that it and the tests of cards need
setup-cards: setup
	@$(MAKE) --silent $(CARDS) \
		|| echo "setup-cards: cards are not tested here / 此处不测试卡片: see above / 见上"

$(CARDS): Makefile requirements-cards.lock requirements-cards-build.lock $(READY)
	@wanted="$(CARD_PACKAGES)"; \
		$(BIN)/python -c 'import os, sysconfig; raise SystemExit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
			|| wanted="$$wanted python3-dev"; \
		lacking=$$(for package in $$wanted; do dpkg -s $$package 2>/dev/null | grep -q "^Status:.* installed" || echo $$package; done); \
		test -z "$$lacking" \
		|| { [ "$$(id -u)" = 0 ] && apt-get update -q && DEBIAN_FRONTEND=noninteractive \
			apt-get install -q -y --no-install-recommends $$lacking; } \
		|| { echo "setup-cards: run / 请执行 'sudo apt-get update && sudo apt-get install" $$lacking"', then 'make setup-cards'"; exit 1; }
	@echo "setup-cards: compiling pyscard / 正在编译 pyscard"
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-cards-build.lock
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
		--no-build-isolation -r requirements-cards.lock  # with that path: its build looks for swig there and nowhere else
	@touch $@

## run     drive the emulated lanes and fuel islands through their scenario and check every decision and every fen
run: setup
	@$(BIN)/etcbench demo

## serve   keep the emulated lanes running until Ctrl-C; its bank is a day behind, so that clearing can be practised
serve: setup
	@$(BIN)/etcbench serve --bank-yesterday

## test    the checks and the whole test suite, real parts included
test: setup-cards check-static
	$(BIN)/python -m pytest -n $(TESTERS) --dist worksteal

## check   format, lint, types, import walls, quick tests: three to four minutes on two idle cores
check: setup-cards check-static
	$(BIN)/python -m pytest -q -n $(TESTERS) --dist worksteal -m "not bench and not slow"

.PHONY: check-static
check-static: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

## bench   performance as ratios against references measured in the same run
bench: setup-cards
	$(BIN)/etcbench measure

## newcomer  make run and make test as root and as an ordinary user in bare roots (needs root and debootstrap)
newcomer: setup
	$(BIN)/etcbench newcomer

## texts   after changing a text (gateway/texts/*.po): what programs read of it
texts: setup
	$(BIN)/python -m gateway.texts.compile gateway/texts hardware/bench/texts

## lock    resolve requirements.lock again from pyproject.toml (needs pip-tools)
lock:
	pip-compile --quiet --extra dev --all-build-deps --allow-unsafe --generate-hashes --strip-extras \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate --no-header \
		-o requirements.lock pyproject.toml
	printf 'setuptools\nswig\n' | pip-compile --quiet --allow-unsafe --generate-hashes --strip-extras \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate --no-header \
		-o requirements-cards-build.lock -
	pip-compile --quiet --extra cards --generate-hashes --strip-extras \
		--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-annotate --no-header \
		-o - pyproject.toml | sed -n '/^pyscard/,/[^\\]$$/p' > requirements-cards.lock

## clean   remove what make and the demo wrote
clean:
	rm -rf $(VENV) var .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
