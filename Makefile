# `make help` lists what there is. Everything it makes lies in .build*, .cache and .venv.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup build demo demo-stop test test-sanitized bench-autoscaling fuzz lint format modules clean

FUZZ_SECONDS ?= 60
SEEDS ?= 1
TRACES ?= traces

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what building, the demonstration and the tests need, if it is missing
	@scripts/setup test

build: ## build .build/release/weir
	@scripts/setup build
	@swift build -c release --static-swift-stdlib --product weir

demo: ## two real models, real images, a killed replica, changed weights (KEEP=1: leave it running)
	@KEEP="$(KEEP)" RATE="$(RATE)" DURATION="$(DURATION)" HTTP_PORT="$(HTTP_PORT)" \
	    ADMIN_PORT="$(ADMIN_PORT)" scripts/demo/run

demo-stop: ## end what `make demo KEEP=1` left running
	@scripts/demo/run --stop

test: ## set up, check the style, run every test
	@scripts/test all

test-sanitized: ## run the Swift tests with AddressSanitizer, then with ThreadSanitizer
	@scripts/test sanitized

bench-autoscaling: build ## Weir beside tuned baselines and the optimum (SEEDS=3, TRACES=folder)
	@SEEDS="$(SEEDS)" TRACES="$(TRACES)" POLICY="$(POLICY)" scripts/bench-autoscaling

fuzz: ## fuzz every parser for FUZZ_SECONDS=60 (5 minutes in all if CI is set)
	@scripts/setup build
	@Fuzz/run -s $(FUZZ_SECONDS)

lint: ## check the style of sources and scripts
	@scripts/lint

format: ## bring the Swift sources into the style
	@swift format -i -p -r Sources Tests Fuzz Package.swift

modules: ## list the modules with their sizes
	@scripts/modules

clean: ## remove builds and caches (the Python environment stays)
	@rm -rf .build .build-* .cache
