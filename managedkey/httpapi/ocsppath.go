package httpapi

import (
	"net/http"
	"net/url"
	"strings"
)

// OCSP requests come in base64 as the end of a path (RFC 6960, Appendix A.1): with slashes, several in a row, also escaped ones and
// one at the very end. Paths like that are refused otherwise. They are taken only below "ocsp" of an engine that says that everybody
// may use them, so that no decision of who may do what hangs on how they are read.

// ocspPath splits the path of a GET that may end with an OCSP request: before, without /v1/, it ends with "ocsp", and data is what
// follows, with nothing escaped any more. before is empty if it is no such path.
func ocspPath(r *http.Request) (before, data string) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return "", ""
	}
	raw := r.URL.EscapedPath()
	const mark = "/ocsp/"
	i := strings.Index(raw, mark)
	if i < 0 || len(raw) > maxPath {
		return "", ""
	}
	data, err := url.PathUnescape(raw[i+len(mark):])
	if err == nil && strings.Contains(data, "%") { // some clients escape twice
		data, err = url.PathUnescape(data)
	}
	other := func(c rune) bool { return !strings.ContainsRune(base64Characters, c) }
	if err != nil || data == "" || strings.ContainsFunc(data, other) {
		return "", ""
	}
	u := *r.URL
	u.RawPath = raw[:i+len(mark)-1]
	if u.Path, err = url.PathUnescape(u.RawPath); err != nil {
		return "", ""
	}
	before, err = checkPath(&http.Request{URL: &u})
	if err != nil {
		return "", ""
	}
	return before, data
}

const base64Characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_="

// findOCSP looks whether the path leads to an engine's OCSP responder. wrong is what is wrong with the path if it doesn't, or nil;
// what is returned is wrong, if there is nothing to go on with.
func (c *call) findOCSP(before, data string, wrong error) (there bool, err error) {
	at, ok := c.api.locate(c.asked, before)
	if !ok || at.mount == nil || at.rest != "ocsp" {
		return false, wrong
	}
	c.ocsp = "ocsp/" + data
	if wrong != nil {
		c.place, c.wrong = at, wrong
	} else if c.mount != at.mount {
		c.ocsp = ""
	}
	return true, nil
}
