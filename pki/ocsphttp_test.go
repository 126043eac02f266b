package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/base64"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// TestOCSPHandler: requests come by POST, and by GET in all the ways in which clients write them.
func TestOCSPHandler(t *testing.T) {
	f := newFirm(t, nil)
	root := f.root(t, "p256", "root")
	server := httptest.NewServer(http.StripPrefix("/ocsp", f.OCSPHandler()))
	defer server.Close()
	var request []byte
	var text string
	for !strings.Contains(text, "//") || !strings.Contains(text, "+") || !strings.HasSuffix(text, "=") {
		var serials []*big.Int // at random, until the text has all kinds of characters
		for range 4 {
			serial, err := serialNumber(rand.Reader)
			must(t, err)
			serials = append(serials, serial)
		}
		request = question(t, root.Certificate(), crypto.SHA1, nil, serials...)
		text = base64.StdEncoding.EncodeToString(request)
	}
	want := f.AnswerOCSP(t.Context(), request)
	if want.Status != OCSPSuccessful {
		t.Fatal(want.Err)
	}
	do := func(method, path, kind string, body []byte, header ...string) (*http.Response, []byte) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+"/ocsp"+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if kind != "" {
			r.Header.Set("Content-Type", kind)
		}
		if len(header) == 2 {
			r.Header.Set(header[0], header[1])
		}
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		data, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer, data
	}
	escaped := url.PathEscape(text)
	for name, path := range map[string]string{
		"plain":          "/" + text,
		"escaped":        "/" + strings.ReplaceAll(strings.ReplaceAll(escaped, "+", "%2B"), "=", "%3D"),
		"escaped twice":  "/" + url.PathEscape(strings.ReplaceAll(escaped, "+", "%2B")),
		"slashes":        "///" + text,
		"no padding":     "/" + strings.TrimRight(text, "="),
		"URL's alphabet": "/" + base64.URLEncoding.EncodeToString(request),
		"spaces":         "/" + strings.ReplaceAll(text, "+", "%20"),
	} {
		answer, data := do("GET", path, "", nil)
		if answer.StatusCode != 200 || !bytes.Equal(data, want.DER) || answer.Header.Get("Content-Type") != "application/ocsp-response" {
			t.Errorf("GET, %s: %s, %.20x", name, answer.Status, data)
		}
	}
	answer, data := do("POST", "", "application/ocsp-request", request)
	if answer.StatusCode != 200 || !bytes.Equal(data, want.DER) || answer.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("POST: %s, %v, %.20x", answer.Status, answer.Header, data)
	}
	answer, _ = do("GET", "/"+text, "", nil)
	h := answer.Header
	if h.Get("Cache-Control") != "max-age=3600, public, no-transform, must-revalidate" || h.Get("Last-Modified") != "Sun, 01 Mar 2026 12:00:00 GMT" ||
		h.Get("Expires") != "Sun, 01 Mar 2026 13:00:00 GMT" || len(h.Get("ETag")) != 66 {
		t.Errorf("headers %v", h)
	}
	if answer, data := do("GET", "/"+text, "", nil, "If-None-Match", h.Get("ETag")); answer.StatusCode != 304 || len(data) != 0 {
		t.Errorf("it has not changed: %s, %.20x", answer.Status, data)
	}
	if answer, data := do("HEAD", "/"+text, "", nil); answer.StatusCode != 200 || len(data) != 0 || answer.ContentLength != int64(len(want.DER)) {
		t.Errorf("HEAD: %s, %d, %x", answer.Status, answer.ContentLength, data)
	}
	for name, c := range map[string]struct {
		method, path, kind string
		body               []byte
		status             int
		ocsp               OCSPStatus
	}{
		"no base64":      {"GET", "/M!", "", nil, 200, OCSPMalformedRequest},
		"nothing":        {"GET", "/", "", nil, 200, OCSPMalformedRequest},
		"escaped badly":  {"GET", "/M%25zz", "", nil, 200, OCSPMalformedRequest},
		"too long":       {"GET", "/" + strings.Repeat("M", 22_000), "", nil, 200, OCSPMalformedRequest},
		"no request":     {"GET", "/MAAA", "", nil, 200, OCSPMalformedRequest},
		"another type":   {"POST", "", "text/plain", request, 415, 0},
		"no type":        {"POST", "", "", request, 415, 0},
		"too much":       {"POST", "", "application/ocsp-request", make([]byte, MaxOCSPRequest+1), 413, 0},
		"another method": {"PUT", "", "application/ocsp-request", request, 405, 0},
		"empty":          {"POST", "", "application/ocsp-request", nil, 200, OCSPMalformedRequest},
		"with a charset": {"POST", "", "application/ocsp-request; charset=x", request, 200, OCSPSuccessful},
	} {
		answer, data := do(c.method, c.path, c.kind, c.body)
		if answer.StatusCode != c.status || c.status == 200 && c.ocsp != OCSPSuccessful && !bytes.Equal(data, c.ocsp.bare()) {
			t.Errorf("%s: %s, %.80q", name, answer.Status, data)
		}
		if c.ocsp != OCSPSuccessful && answer.Header.Get("Cache-Control") == "" && c.status == 200 {
			t.Errorf("%s: it can be kept", name)
		}
	}
}

// TestOCSPAge: caches don't keep an answer past its end, nor longer than they may.
func TestOCSPAge(t *testing.T) {
	now := noon.Truncate(time.Second)
	f := newFirm(t, &Options{Now: func() time.Time { return now }})
	root := f.root(t, "p256", "root")
	if err := f.SetOCSPConfig(t.Context(), OCSPConfig{Validity: 2 * time.Hour, MaxAge: 90 * time.Minute}); err != nil {
		t.Fatal(err)
	}
	request := question(t, root.Certificate(), crypto.SHA1, nil, big.NewInt(1))
	if answer := f.AnswerOCSP(t.Context(), request); answer.MaxAge != 90*time.Minute {
		t.Errorf("max-age %v", answer.MaxAge)
	}
	now = now.Add(50 * time.Minute)
	if answer := f.AnswerOCSP(t.Context(), request); answer.MaxAge != 70*time.Minute {
		t.Errorf("max-age %v", answer.MaxAge)
	}
}
