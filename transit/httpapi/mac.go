package httpapi

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"

	"github.com/managedkeys/managedkeys/transit"
)

func hmac(c *call) error {
	q, err := c.request(hmacAll, hmacItem)
	if err != nil {
		return err
	}
	results, err := carry(q.all(), func(it *item) (r transit.MACRequest, err error) {
		r = transit.MACRequest{HashAlgorithm: c.hashName(q), KeyVersion: q.version, Reference: it.reference}
		r.Input, err = q.inputOf(it)
		return r, err
	}, func(requests []transit.MACRequest) ([]transit.Result[string], error) {
		return c.engine.HMACBatch(c.r.Context(), c.args[0], requests)
	})
	if err != nil {
		return err
	}
	return finish(c, q, results, false, showMAC("hmac"))
}

func cmac(c *call) error {
	q, err := c.request(cmacAll, cmacItem)
	if err != nil {
		return err
	}
	if c.args[1] != "" {
		if q.length, err = strconv.Atoi(c.args[1]); err != nil {
			return refuse("MAC length %.20q in the path: it takes a number of bytes", c.args[1])
		}
	}
	results, err := carry(q.all(), func(it *item) (r transit.CMACRequest, err error) {
		r = transit.CMACRequest{Length: q.length, KeyVersion: q.version, Reference: it.reference}
		r.Input, err = q.inputOf(it)
		return r, err
	}, func(requests []transit.CMACRequest) ([]transit.Result[string], error) {
		return c.engine.CMACBatch(c.r.Context(), c.args[0], requests)
	})
	if err != nil {
		return err
	}
	return finish(c, q, results, false, showMAC("cmac"))
}

func showMAC(name string) func(b []byte, _ int, r *transit.Result[string]) []byte {
	return func(b []byte, _ int, r *transit.Result[string]) []byte {
		if r.Err != nil {
			return b
		}
		return append(appendString(append(appendString(b, name), ':'), r.Value), ',')
	}
}

// formats are how bytes are shown.
var formats = map[string]func([]byte) string{"hex": hex.EncodeToString, "base64": base64.StdEncoding.EncodeToString}

func formatOf(name string) (func([]byte) string, error) {
	show := formats[name]
	if show == nil {
		return nil, refuse("unsupported encoding format %.40q; must be \"hex\" or \"base64\"", name)
	}
	return show, nil
}

func hash(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	algorithm, format, encoded := "", "hex", ""
	f.String("algorithm", &algorithm)
	f.String("format", &format)
	f.String("input", &encoded)
	if err := f.Done(); err != nil {
		return err
	}
	if c.args[0] != "" {
		algorithm = c.args[0]
	}
	show, err := formatOf(format)
	if err != nil {
		return err
	}
	input, err := unbase64("input", encoded)
	if err != nil {
		return err
	}
	sum, err := transit.Hash(algorithm, input)
	if err != nil {
		return err
	}
	return c.reply(map[string]string{"sum": show(sum)})
}

// random takes the source and the number of bytes in the path, either of them alone, or in the body.
func random(c *call) error {
	f, err := c.fields()
	if err != nil {
		return err
	}
	n, format, source, key := 32, "base64", "", ""
	f.Int("bytes", &n)
	f.String("format", &format)
	f.String("source", &source)
	f.String("key", &key)
	if err := f.Done(); err != nil {
		return err
	}
	first, second := c.args[0], c.args[1]
	if _, err := strconv.Atoi(first); err == nil && second == "" {
		first, second = "", first
	}
	if first != "" {
		source = first
	}
	if second != "" {
		if n, err = strconv.Atoi(second); err != nil {
			return refuse("error parsing url-set byte count: %.20q", second)
		}
	}
	show, err := formatOf(format)
	if err != nil {
		return err
	}
	out, err := c.engine.Random(c.r.Context(), n, source, key)
	if err != nil {
		return err
	}
	return c.reply(map[string]string{"random_bytes": show(out)})
}
