package fakeazure

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// Error is an answer that reports an error as Key Vault does. As Fault.Error it is what a request gets.
type Error struct {
	Status  int
	Code    string // such as "Forbidden"
	Inner   string // such as "KeyDisabled"; may be empty
	Message string
	Header  http.Header // more headers, such as Retry-After
}

// Error returns status, codes and message.
func (e *Error) Error() string {
	return fmt.Sprintf("%d %s (%s): %s", e.Status, e.Code, e.Inner, e.Message)
}

// Raw is an answer as it stands, for what no vault would say. As Fault.Error it is what a request gets.
type Raw struct {
	Status int
	Header http.Header
	Body   string
	Cut    bool // the connection ends before the body does
}

// serve answers for every host.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	switch v := s.vault(r.Host); {
	case v != nil:
		s.serveVault(w, r, v)
	case loginHosts[r.Host]:
		s.serveLogin(w, r)
	case r.URL.Path == "/msi/token":
		s.serveIdentity(w, r)
	default:
		http.NotFound(w, r)
	}
}

// serveVault authorizes, does and answers one request, with what the script has in store for it.
func (s *Server) serveVault(w http.ResponseWriter, r *http.Request, v *vault) {
	id := uuid.NewString()
	w.Header().Set("x-ms-request-id", id)
	w.Header().Set("x-ms-keyvault-region", "fakeazure")
	req, err := parse(r)
	op := req.op
	refusal := s.authorized(r, v.resource)
	if refusal != nil {
		op = "challenge"
	}
	fault, met := s.Script.Next(op)
	s.Log.Add(fakecloud.Request{Op: op, Key: req.key(), ID: id})
	if met {
		fault.Wait(r.Context())
		if !fault.After && s.fail(w, fault) {
			return
		}
	}
	if refusal != nil {
		s.challenge(w, v, refusal)
		return
	}
	if r.URL.Query().Get("api-version") == "" {
		err = &Error{Status: 400, Code: "BadParameter", Message: "api-version must be specified"}
	}
	if err == nil && s.denies(op) {
		err = &Error{Status: 403, Code: "Forbidden", Inner: "ForbiddenByRbac", Message: "Caller is not authorized to perform action on resource. Action: '" + op + "'"}
	}
	var answer map[string]any
	if err == nil {
		answer, err = v.do(req)
	}
	if met && fault.After && s.fail(w, fault) {
		return
	}
	if err != nil {
		s.writeError(w, err)
		return
	}
	if change, ok := fault.Corrupt.(func(map[string]any)); ok {
		// Through JSON, so that what is changed is the answer's own.
		if data, err := json.Marshal(answer); err == nil {
			clear(answer)
			json.Unmarshal(data, &answer)
		}
		change(answer)
	}
	writeJSON(w, http.StatusOK, answer)
}

// challenge refuses a request that has no good token, and says where to get one.
func (s *Server) challenge(w http.ResponseWriter, v *vault, refusal error) {
	w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer authorization=%q, resource=%q", strings.TrimSuffix(Authority, "/")+"/"+TenantID, v.resource))
	s.writeError(w, &Error{Status: 401, Code: "Unauthorized", Message: "AKV10000: " + refusal.Error()})
}

// fail answers as the fault says and reports whether there is anything to it.
func (s *Server) fail(w http.ResponseWriter, fault fakecloud.Fault) bool {
	switch e := fault.Error.(type) {
	case *Error:
		s.writeError(w, e)
		return true
	case *Raw:
		e.write(w)
		return true
	case nil:
	default:
		panic(fmt.Sprintf("fakeazure: Fault.Error is %T, want *Error or *Raw", e))
	}
	if fault.Drop {
		panic(http.ErrAbortHandler)
	}
	return false
}

func (e *Raw) write(w http.ResponseWriter) {
	maps.Copy(w.Header(), e.Header)
	if e.Cut {
		w.Header().Set("Content-Length", strconv.Itoa(len(e.Body)+100))
	}
	w.WriteHeader(e.Status)
	io.WriteString(w, e.Body)
	if e.Cut {
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func (s *Server) writeError(w http.ResponseWriter, err error) {
	e, ok := err.(*Error)
	if !ok {
		e = &Error{Status: 500, Code: "InternalError", Message: err.Error()}
	}
	maps.Copy(w.Header(), e.Header)
	body := map[string]any{"code": e.Code, "message": e.Message}
	if e.Inner != "" {
		body["innererror"] = map[string]any{"code": e.Inner}
	}
	writeJSON(w, e.Status, map[string]any{"error": body})
}

func writeJSON(w http.ResponseWriter, status int, answer map[string]any) {
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	encoder.Encode(answer)
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status)
	w.Write(body.Bytes())
}

// servePlain is the instance metadata service, and a proxy that connects to the fake whatever it is asked for.
func (s *Server) servePlain(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodConnect {
		if r.URL.Path == "/metadata/identity/oauth2/token" {
			s.serveIdentity(w, r)
			return
		}
		http.NotFound(w, r)
		return
	}
	up, err := net.Dial("tcp", s.tlsAt)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer up.Close()
	down, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer down.Close()
	io.WriteString(down, "HTTP/1.1 200 Connection established\r\n\r\n")
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(down, up)
		down.Close() // ends the other direction
	}()
	io.Copy(up, buffered)
	up.Close()
	<-done
}
