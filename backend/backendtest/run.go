package backendtest

import (
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// Run checks that the backend of cfg keeps every rule of package backend, each as a subtest. It fails, rather than pass
// without having checked anything, if cfg declares no keys, no absent key or no invalid parameters, or contradicts
// itself.
//
// The cases run one after another and leave the keys of cfg.Keys as they were; the keys of cfg.Generate and cfg.Import
// are made and stay. It is meant to be run with the race detector as well.
func Run(t *testing.T, cfg Config) {
	t.Helper()
	if problems := cfg.problems(); len(problems) > 0 {
		for _, problem := range problems {
			t.Errorf("backendtest: Config: %s", problem)
		}
		return
	}
	c := &checker{t, cfg}
	c.sub("Formats", checkFormats)
	c.sub("Open", checkOpen)
	c.sub("Keys", func(c *checker) {
		b := c.client()
		for _, k := range cfg.Keys {
			c.sub(k.Name, func(c *checker) { checkKey(c, b, k) })
		}
	})
	c.sub("AllKeys", checkAllKeys)
	c.sub("List", checkList)
	c.sub("Ping", checkPing)
	c.sub("Close", checkClose)
	c.sub("Generate", checkGenerate)
	c.sub("Import", checkImport)
}

// checkKey runs the cases of one existing key.
func checkKey(c *checker, b backend.Backend, k Key) {
	key := c.open(b, k.Params)
	for _, test := range []struct {
		name  string
		check func(*checker, Key, backend.Key)
	}{
		{"Capabilities", checkCapabilities},
		{"Sign", checkSign},
		{"PSS", checkPSS},
		{"Contexts", checkSignatureContexts},
		{"Verify", checkVerify},
		{"X509", checkX509},
		{"TLS", checkTLS},
		{"Decrypt", checkDecrypt},
		{"Agree", checkAgree},
		{"Decapsulate", checkDecapsulate},
		{"AEAD", checkAEAD},
		{"MAC", checkMAC},
		{"Random", checkRandom},
		{"Wrap", checkWrap},
		{"Attest", checkAttest},
		{"Refused", checkRefused},
		{"Context", checkContext},
		{"Parallel", checkParallel},
	} {
		c.sub(test.name, func(c *checker) { test.check(c, k, key) })
	}
	c.sub("Reopen", func(c *checker) { checkReopen(c, b, k, key) })
	c.sub("Closed", func(c *checker) { checkClosed(c, k) })
	c.sub("CloseInUse", func(c *checker) { checkCloseInUse(c, k) })
}
