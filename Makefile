# make help lists the targets. Everything runs with a Go toolchain alone, but `make test` wants root on Debian to install
# the tokens and tools that the tests use; elsewhere install them yourself (see PACKAGES).

PACKAGES    := softhsm2 opensc gnutls-bin libnss3-tools openssl p11-kit p11-kit-modules swtpm tpm2-tools \
    libtpm2-pkcs11-1 libtpm2-pkcs11-tools gcc libc6-dev ca-certificates awscli \
    postgresql etcd-server etcd-client curl openssh-client
REQUIRE     := softhsm,opensc,gnutls-bin,libnss3-tools,openssl,p11-kit,swtpm,cc,awscli,postgres,etcd,curl,openssh,go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
# The tests run with the oldest and the newest Go that the library supports, and with the race detector on the former. With -bench,
# go test would run one package after the other.
OTHER_GO    := go1.27.4
FUZZTIME    := 20s
SOAKTIME    := 5m

# The arithmetic of the standard library, which sees no memory but its own, runs several times as fast unless the race
# detector watches it.
ARITHMETIC  := nistec bigmod edwards25519 mldsa
RACE        := -race $(foreach p,$(ARITHMETIC),-gcflags=crypto/internal/fips140/$(p)/...=-race=false)

# What cgo adds is looked at where it is, and with the other Go: all modules compiled once more, with cgo, would find nothing else.
CGO         := ./backend/pkcs11/... ./backend/replicated ./internal/faultp11/... ./internal/p11kit ./internal/swtpm

# Many tests wait: for a retry, a server that starts, a token that works on one core. One package more at a time than two cores
# could compute keeps both busy, and leaves tests with deadlines their share. `make check` has vetted everything. Without -count, go test has each test
# log the files that it opens, in a file that can't grow while a test lets the disk be full.
GOTEST      := MANAGEDKEYS_REQUIRE=$(REQUIRE) go test -json -vet=off -timeout 20m -count 1 -p 3

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## as root on Debian: install what the tests need
	@for p in $(PACKAGES); do \
	    dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; \
	done; \
	if [ -n "$$missing" ]; then \
	    if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	        echo "make: please install:$$missing"; exit 1; \
	    fi; \
	    echo "installing$$missing"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing >/dev/null; \
	fi

.PHONY: test
test: deps check ## everything: checks, and all tests with the race detector and on both Go versions, skipping nothing
	$(GOTEST) $(RACE) ./... | go run ./internal/testreport
	GOTOOLCHAIN=$(OTHER_GO) $(GOTEST) -short ./... | go run ./internal/testreport
	CGO_ENABLED=0 go run ./examples/quickstart
	GOTOOLCHAIN=$(OTHER_GO) go run ./examples/quickstart -softhsm

.PHONY: check
check: ## gofmt, go.mod, vet and staticcheck with and without cgo, vet with the other Go, benchmarks once, known vulnerabilities
	@out=$$(gofmt -l .); [ -z "$$out" ] || { echo "gofmt would change:"; echo "$$out"; exit 1; }
	go mod tidy -diff
	CGO_ENABLED=0 go build ./...
	CGO_ENABLED=0 go vet ./...
	CGO_ENABLED=0 go run $(STATICCHECK) $$(go list ./... | grep -v /backend/pkcs11)
	go vet $(CGO)
	CGO_ENABLED=0 go run -exec 'env CGO_ENABLED=1' $(STATICCHECK) $(CGO)
	GOTOOLCHAIN=$(OTHER_GO) go vet ./...
	GOTOOLCHAIN=$(OTHER_GO) go test -vet=off -run '^$$' -bench . -benchtime 1x -short $$(grep -rl --include='*_test.go' '^func Benchmark' . | xargs -n 1 dirname | sort -u) >/dev/null
	@go run $(GOVULNCHECK) ./... >vuln.out 2>&1; status=$$?; \
	if [ $$status = 3 ]; then cat vuln.out; rm -f vuln.out; exit 1; \
	elif [ $$status != 0 ]; then echo "govulncheck: not checked: $$(tail -n 1 vuln.out)"; fi; rm -f vuln.out

.PHONY: bench
bench: deps ## speed, each figure beside its baseline from the same run
	go run ./internal/bench

.PHONY: soak
soak: deps ## sign for SOAKTIME each on two kinds of tokens while everything goes wrong
	MANAGEDKEYS_REQUIRE=$(REQUIRE) go test $(RACE) -run '^TestSoak$$' -soak $(SOAKTIME) -timeout 1h -v ./backend/pkcs11

.PHONY: fuzz
fuzz: ## each fuzz target for FUZZTIME
	@go list ./... | while read pkg; do \
	    go test -list '^Fuzz' $$pkg | grep '^Fuzz' | while read target; do \
	        echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	    done || exit 1; \
	done
