package pki

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The media types of OCSP over HTTP (RFC 6960, Appendix C).
const (
	ocspRequestType  = "application/ocsp-request"
	ocspResponseType = "application/ocsp-response"
)

// OCSPHandler returns a handler that answers OCSP requests over HTTP (RFC 6960, Appendix A): POST with the request as body, and GET
// with it in base64 as the rest of the path. Take the path's beginning off with [http.StripPrefix]. Answers that can be kept
// have the headers of RFC 5019, Section 6.2.
//
// Base64 has slashes, also several in a row. [http.ServeMux] redirects paths that have these to others, which are no
// requests any more, so that it must not stand before this handler where GET matters.
func (a *Authority) OCSPHandler() http.Handler {
	return http.HandlerFunc(a.serveOCSP)
}

func (a *Authority) serveOCSP(w http.ResponseWriter, r *http.Request) {
	var request []byte
	get := false
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		var err error
		if request, err = ocspFromPath(r.URL.Path); err != nil {
			a.writeOCSP(w, r, &OCSPAnswer{DER: OCSPMalformedRequest.bare(), Status: OCSPMalformedRequest, Err: err})
			return
		}
		get = true
	case http.MethodPost:
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != ocspRequestType {
			http.Error(w, "Content-Type: it takes "+ocspRequestType, http.StatusUnsupportedMediaType)
			return
		}
		var err error
		if request, err = io.ReadAll(io.LimitReader(r.Body, MaxOCSPRequest+1)); err != nil {
			http.Error(w, "the body could not be read", http.StatusBadRequest)
			return
		}
		if len(request) > MaxOCSPRequest {
			http.Error(w, fmt.Sprintf("the request has more than %d bytes", MaxOCSPRequest), http.StatusRequestEntityTooLarge)
			return
		}
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		http.Error(w, "it takes GET and POST", http.StatusMethodNotAllowed)
		return
	}
	answer := a.AnswerOCSP(r.Context(), request)
	if !get {
		answer = &OCSPAnswer{DER: answer.DER, Status: answer.Status}
	}
	a.writeOCSP(w, r, answer)
}

// writeOCSP writes an answer. Also those that are not successful have status 200: it is what clients read on for.
func (a *Authority) writeOCSP(w http.ResponseWriter, r *http.Request, answer *OCSPAnswer) {
	h := w.Header()
	h.Set("Content-Type", ocspResponseType)
	if answer.MaxAge < time.Second {
		h.Set("Cache-Control", "no-store")
	} else {
		now := a.engine.now()
		etag := fmt.Sprintf(`"%x"`, sha256.Sum256(answer.DER))
		h.Set("Cache-Control", fmt.Sprintf("max-age=%d, public, no-transform, must-revalidate", int(answer.MaxAge/time.Second)))
		h.Set("Last-Modified", answer.ThisUpdate.UTC().Format(http.TimeFormat))
		h.Set("Expires", now.Add(answer.MaxAge).UTC().Format(http.TimeFormat))
		h.Set("ETag", etag)
		if strings.Contains(r.Header.Get("If-None-Match"), etag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(answer.DER)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(answer.DER) // who has gone away isn't told
	}
}

// ocspFromPath decodes the request in a path. Clients differ in how many slashes come before it, in escaping it once or twice, in the
// alphabet, and in padding.
func ocspFromPath(path string) ([]byte, error) {
	text := strings.TrimLeft(path, "/")
	if strings.Contains(text, "%") {
		var err error
		if text, err = url.PathUnescape(text); err != nil {
			return nil, invalid("OCSP request: the path is escaped wrongly: %w", err)
		}
	}
	if len(text) > base64.StdEncoding.EncodedLen(MaxOCSPRequest) {
		return nil, invalid("OCSP request: the path has %d characters; it takes at most %d", len(text), base64.StdEncoding.EncodedLen(MaxOCSPRequest))
	}
	text = strings.NewReplacer("-", "+", "_", "/", " ", "+").Replace(strings.TrimRight(text, "="))
	der, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil, invalid("OCSP request: the path is no base64: %w", err)
	}
	return der, nil
}
