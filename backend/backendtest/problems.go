package backendtest

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
)

// problems returns what is wrong with the configuration itself. A table that is empty would make a run pass that has
// checked nothing.
func (cfg Config) problems() []string {
	var problems []string
	report := func(wrong bool, format string, args ...any) {
		if wrong {
			problems = append(problems, fmt.Sprintf(format, args...))
		}
	}
	report(cfg.New == nil, "New is nil")
	report(len(cfg.Keys) == 0, "Keys is empty; at least one key must exist")
	report(cfg.Absent == nil, "Absent is nil; some parameters must describe no key")
	report(len(cfg.Invalid) == 0, "Invalid is empty; some parameters must be malformed")
	for name, p := range cfg.Invalid {
		report(p == nil, "Invalid[%q] is nil", name)
	}
	for i, secret := range cfg.Secrets {
		report(len(secret) < 4, "Secrets[%d] has %d bytes; with fewer than 4 it may appear by chance", i, len(secret))
	}
	var names []string
	named := func(field, name string) {
		report(name == "", "%s has no Name", field)
		report(name != "" && slices.Contains(names, name), "%s: the name %q is used twice", field, name)
		names = append(names, name)
	}
	for i, k := range cfg.Keys {
		field := fmt.Sprintf("Keys[%d]", i)
		named(field, k.Name)
		report(k.Params == nil, "%s.Params is nil", field)
		report(k.Algorithm == "", "%s.Algorithm is empty", field)
		for _, problem := range k.problems() {
			report(true, "%s (%s): %s", field, k.Name, problem)
		}
	}
	for i, g := range cfg.Generate {
		field := fmt.Sprintf("Generate[%d]", i)
		named(field, g.Name)
		report(g.Params == nil, "%s.Params is nil", field)
		report(g.Algorithm == "", "%s.Algorithm is empty", field)
	}
	for i, m := range cfg.Import {
		field := fmt.Sprintf("Import[%d]", i)
		named(field, m.Name)
		report(m.Params == nil, "%s.Params is nil", field)
		report(m.Material == nil, "%s.Material is nil", field)
	}
	return problems
}

func (k Key) problems() []string {
	var problems []string
	for _, alg := range k.Signs {
		if _, ok := certificateAlgorithms[alg]; !ok {
			problems = append(problems, fmt.Sprintf("Signs: crypto/x509 can't safely sign certificates with %v", alg))
		}
	}
	// Whether Schemes hide what belongs in Signs depends on the curve: checkCapabilities sees it.
	implied := Key{Signs: k.Signs, Digests: k.Digests}.signatures(nil)
	for _, a := range implied {
		a.Salt = 0
		for alg, with := range certificateAlgorithms {
			if a == with && !slices.Contains(k.Signs, alg) {
				problems = append(problems, fmt.Sprintf("Digests: %v implies %v, which belongs in Signs", a.Hash, alg))
			}
		}
	}
	if slices.Contains(k.Signs, x509.UnknownSignatureAlgorithm) || len(k.signatures(nil)) == 0 && len(k.Digests) > 0 {
		problems = append(problems, "Digests: no scheme follows from Signs, and Schemes has none")
	}
	if len(k.Schemes) > 0 && len(k.Digests) == 0 {
		problems = append(problems, "Schemes: there are no Digests for them")
	}
	for _, s := range k.Schemes {
		if s != backend.ECDSA && s != backend.RSAPKCS1v15 && s != backend.RSAPSS {
			problems = append(problems, fmt.Sprintf("Schemes: %v signs no digests", s))
		}
	}
	for _, h := range slices.Concat(k.Digests, k.PKCS1Digests, k.OAEP) {
		if h == crypto.Hash(0) || !h.Available() {
			problems = append(problems, fmt.Sprintf("hash %v is not linked into this program", h))
		}
	}
	return problems
}
