package httpapi

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"strings"

	"github.com/managedkeys/managedkeys/internal/csrfault"
	"github.com/managedkeys/managedkeys/transit"
)

func backup(c *call) error {
	text, err := c.engine.Backup(c.r.Context(), c.args[0])
	if err != nil {
		return err
	}
	return c.reply(map[string]string{"backup": text})
}

func restore(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	text, force := "", false
	f.String("backup", &text)
	f.Bool("force", &force)
	if err := f.Done(); err != nil {
		return err
	}
	if text == "" {
		return refuse("'backup' must be supplied")
	}
	if c.allowSoftware() != nil && !transit.IsManagedBackup(text) {
		return c.allowSoftware()
	}
	if err := c.engine.Restore(c.r.Context(), c.args[0], text, force); err != nil {
		return err
	}
	return c.reply(nil)
}

func signRequest(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	number, text := 0, ""
	f.Int("version", &number)
	f.String("csr", &text)
	if err := f.Done(); err != nil {
		return err
	}
	var template *x509.CertificateRequest
	if text != "" {
		block, rest := pem.Decode([]byte(text))
		if block == nil || block.Type != "CERTIFICATE REQUEST" || strings.TrimSpace(string(rest)) != "" {
			return refuse("could not decode PEM certificate signing request")
		}
		if template, err = x509.ParseCertificateRequest(block.Bytes); err != nil {
			return refuse("could not parse certificate signing request: %s", csrfault.Of(block.Bytes, err))
		}
	}
	der, err := c.engine.CSR(c.r.Context(), c.args[0], number, template)
	if err != nil {
		return err
	}
	info, err := c.engine.Key(c.args[0])
	if err != nil {
		return err
	}
	return c.reply(map[string]string{"name": c.args[0], "type": info.Type,
		"csr": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))})
}

func setCertificate(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	number, text := 0, ""
	f.Int("version", &number)
	f.String("certificate_chain", &text)
	if err := f.Done(); err != nil {
		return err
	}
	var chain [][]byte
	for rest := bytes.TrimSpace([]byte(text)); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return refuse("could not decode PEM certificate chain: it takes certificates and nothing else")
		}
		if chain = append(chain, block.Bytes); len(chain) > transit.MaxCertificates {
			return refuse("certificate chain of more than %d", transit.MaxCertificates)
		}
	}
	if err := c.engine.SetCertificate(c.r.Context(), c.args[0], number, chain); err != nil {
		return err
	}
	return c.reply(nil)
}

func readCache(c *call) error {
	s, _, err := c.settings(c.r.Context())
	if err != nil {
		return err
	}
	return c.reply(map[string]int{"size": s.CacheSize})
}

// minCache is the smallest cache that others take, in keys.
const minCache = 10

// writeCache keeps a number that means nothing here, where all keys are known all the time, so that who sets it finds it again.
func writeCache(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	size := 0
	f.Int("size", &size)
	if err := f.Done(); err != nil {
		return err
	}
	if size < 0 || size > 0 && size < minCache {
		return refuse("size must be 0 or a value greater or equal to %d", minCache)
	}
	if _, err := c.changeSettings(c.r.Context(), func(s *settings) { s.CacheSize = size }); err != nil {
		return err
	}
	return c.reply(nil)
}

func readConfig(c *call) error {
	s, _, err := c.settings(c.r.Context())
	if err != nil {
		return err
	}
	return c.reply(map[string]bool{"disable_upsert": s.DisableUpsert})
}

func writeConfig(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	given, disable := f.Has("disable_upsert"), false
	f.Bool("disable_upsert", &disable)
	if err := f.Done(); err != nil {
		return err
	}
	s, err := c.changeSettings(c.r.Context(), func(s *settings) {
		if given {
			s.DisableUpsert = disable
		}
	})
	if err != nil {
		return err
	}
	return c.reply(map[string]bool{"disable_upsert": s.DisableUpsert})
}
