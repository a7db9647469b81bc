# `make help` lists what there is. Everything it makes lies in .build*, .cache, .venv and .venv-bench.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup build demo demo-autoscaling demo-rollout demo-kubernetes demo-stop bench \
    bench-micro bench-control bench-pods bench-kubernetes bench-autoscaling bench-simulation \
    bench-rollouts bench-instructions profile loadtest soak test test-kubernetes test-roles h2spec \
    scan-tls test-sanitized fuzz lint format modules clean

FUZZ_SECONDS ?= 60
ROUNDS ?= 5
SEEDS ?= 1
TRACES ?= loadtests/traces

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what building, the demonstration and the tests need, if it is missing
	@scripts/setup test

build: ## build .build/release/weir
	@scripts/setup build
	@swift build -c release --static-swift-stdlib --product weir

demo: ## two real models, real images, a killed replica, changed weights (KEEP=1: leave it running)
	@KEEP="$(KEEP)" RATE="$(RATE)" DURATION="$(DURATION)" HTTP_PORT="$(HTTP_PORT)" \
	    HTTPS_PORT="$(HTTPS_PORT)" ADMIN_PORT="$(ADMIN_PORT)" scripts/demo/run

demo-autoscaling: ## an hour of real traffic in two minutes: replicas from none and back to none
	@SPEED="$(SPEED)" SCALE="$(SCALE)" HTTP_PORT="$(HTTP_PORT)" ADMIN_PORT="$(ADMIN_PORT)" \
	    scripts/demo/autoscaling

demo-rollout: ## a better model goes live; one that fails, one that is slow and one that is wrong do not
	@RATE="$(RATE)" HTTP_PORT="$(HTTP_PORT)" ADMIN_PORT="$(ADMIN_PORT)" scripts/demo/rollouts

demo-kubernetes: ## a cluster that loses pods, its leader, a gateway, the API server; no request fails
	@RATE="$(RATE)" OUTAGE="$(OUTAGE)" scripts/demo/kubernetes

demo-stop: ## end what `make demo KEEP=1` left running
	@scripts/demo/run --stop

bench-control: ## how long one tick of the autoscaler takes over 10 000 models
	@mkdir -p .cache
	@WEIR_BENCHMARKS=1 swift build -c release --product control-tick >.cache/bench-control.log 2>&1 || \
	    { tail -n 40 .cache/bench-control.log; exit 1; }
	@cc -shared -fPIC -O2 -o .cache/allocations.so Tests/EndToEnd/allocations.c
	@truncate -s 0 .cache/allocations.count && truncate -s 4096 .cache/allocations.count
	@WEIR_ALLOCATIONS=.cache/allocations.count LD_PRELOAD=$(CURDIR)/.cache/allocations.so \
	    .build/release/control-tick

bench-pods: ## how much memory a copy of 100 000 pods takes, listed and streamed
	@mkdir -p .cache
	@WEIR_BENCHMARKS=1 swift build -c release --product pod-memory >.cache/bench-pods.log 2>&1 || \
	    { tail -n 40 .cache/bench-pods.log; exit 1; }
	@.build/release/pod-memory 100000 pages
	@.build/release/pod-memory 100000 stream

bench-kubernetes: build ## what a controller of 1 000 Models and 10 000 pods costs (minutes)
	@scripts/setup test
	@.venv/bin/python loadtests/kubernetes-control --weir .build/release/weir

test: ## set up, check the style, run every test
	@scripts/test all

test-sanitized: ## run the Swift tests with AddressSanitizer, then with ThreadSanitizer
	@scripts/test sanitized

test-kubernetes: ## the API's tests, and Weir's roles, on a real Kubernetes 1.20, which is built once
	@scripts/setup test
	@swift build --product weir
	@WEIR_BINARY=$(CURDIR)/.build/debug/weir scripts/kubernetes test

h2spec: ## HTTP/2's conformance tests; H2SPEC_SOURCE=folder where its repository is out of reach
	@scripts/setup test
	@swift build --product weir
	@scripts/h2spec

scan-tls: ## testssl.sh against listeners as they are by default (TESTSSL=program; minutes)
	@scripts/setup test
	@scripts/setup scan
	@swift build --product weir
	@WEIR_BINARY=$(CURDIR)/.build/debug/weir WEIR_TESTSSL="$(or $(TESTSSL),testssl)" \
	    .venv/bin/python -m pytest -q -s Tests/EndToEnd/test_tls_scan.py

test-roles: ## weir gateway and weir controller on the cluster for tests, with faults
	@scripts/setup test
	@swift build --product weir
	@WEIR_BINARY=$(CURDIR)/.build/debug/weir .venv/bin/python -m pytest Tests/Kubernetes/test_roles.py

bench-autoscaling: build ## Weir, tuned baselines and the optimum: 2 to 5 minutes (SEEDS=3, TRACES=folder)
	@SEEDS="$(SEEDS)" SEED="$(SEED)" TRACES="$(TRACES)" POLICY="$(POLICY)" scripts/bench-autoscaling

bench-simulation: build ## requests that one core simulates in a second; two weeks (a minute)
	@scripts/bench-simulation

fuzz: ## fuzz every parser for FUZZ_SECONDS=60 (5 minutes in all if CI is set)
	@scripts/setup build
	@Fuzz/run -s $(FUZZ_SECONDS)

bench: ## Weir beside nginx, HAProxy and Envoy (ROUNDS=5, ONLY=small-post,sse): takes minutes
	@scripts/bench --rounds "$(ROUNDS)" --only "$(ONLY)"

bench-micro: ## time single decisions, and compare with what Benchmarks/thresholds.json recorded
	@scripts/setup build
	@Benchmarks/check

bench-instructions: ## what a request and an event cost outside the kernel, counted (FUNCTIONS=20)
	@scripts/bench instructions --only "$(ONLY)" --functions "$(or $(FUNCTIONS),0)"

profile: ## count what the request path executes, for the layout of release builds (15 min)
	@scripts/profile

loadtest: ## what must hold under load: reloads, a killed replica, a stuck server, overflow (ONLY=reload)
	@scripts/bench loadtest --only "$(ONLY)"

soak: ## everything at once for MINUTES=3: nothing grows, and nothing is left over
	@scripts/bench soak --minutes "$(or $(MINUTES),3)"

bench-rollouts: ## how often rollouts go back falsely, and how soon rightly (minutes on one core)
	@scripts/setup build
	@swift build -c release --product RolloutBench
	@.build/release/RolloutBench

lint: ## check the style of sources and scripts
	@scripts/lint

format: ## bring the Swift sources into the style
	@swift format -i -p -r Sources Tests Fuzz Benchmarks/Benchmarks Package.swift

modules: ## list the modules with their sizes
	@scripts/modules

clean: ## remove builds and caches (the Python environments stay)
	@rm -rf .build .build-* .cache
