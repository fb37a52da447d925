# Two commands matter: `make up` (a cluster) and `make test` (everything that CI runs).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TEST_STAMP := $(VENV)/.installed-test

.PHONY: help up down test check unit lint types imports conformance bench clean

help: ## what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml hack/install_system.sh
	@hack/install_system.sh runtime
	@hack/install_python.sh "$(PYTHON)" etcd,descriptions
	@touch $@

$(TEST_STAMP): pyproject.toml hack/install_system.sh hack/install_python.sh
	@hack/install_system.sh test
	@hack/install_python.sh "$(PYTHON)" etcd,descriptions,test
	@touch $@ $(STAMP)

up: $(STAMP) ## install what is missing and start a cluster (UP_FLAGS="--nodes 2" …)
	@$(BIN)/pilothouse up $(UP_FLAGS)

down: ## stop the cluster and remove its data
	@$(BIN)/pilothouse down --delete

test: $(TEST_STAMP) ## install what the tests need and run all of them
	@hack/test.sh

check: lint types imports ## static checks only

lint: $(TEST_STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(TEST_STAMP)
	$(BIN)/mypy

imports: $(TEST_STAMP)
	$(BIN)/lint-imports

conformance: $(TEST_STAMP) ## official conformance tests (long; CONFORMANCE_FLAGS="--focus …")
	@hack/conformance/run.sh $(CONFORMANCE_FLAGS)

bench: $(TEST_STAMP) ## side by side with etcd + kube-apiserver (long)
	@$(BIN)/python -m hack.bench $(BENCH_FLAGS)

clean:
	rm -rf $(VENV) build dist
