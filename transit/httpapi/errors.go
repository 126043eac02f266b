package httpapi

import (
	"errors"
	"net/http"
	"strings"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/managedkey"
	"github.com/managedkeys/managedkeys/managedkey/httpapi"
)

// clientErrors are the sentinels of what a client can do something about. They are answered with 400, as others do, and the text says
// the rest.
var clientErrors = []error{
	backend.ErrInvalidParams, backend.ErrUnsupported, backend.ErrKeyNotFound, backend.ErrKeyExists, backend.ErrNotPermitted,
	backend.ErrAmbiguousKey, backend.ErrKeyDisabled,
}

// errDecryption is what clients look for when a ciphertext can't be decrypted, whatever the key and the reason.
var errDecryption = httpapi.Errorf(http.StatusBadRequest, "cipher: message authentication failed")

// explain returns the answer to an error of package transit.
func explain(err error) *httpapi.Error {
	if answer, ok := errors.AsType[*httpapi.Error](err); ok {
		return answer
	}
	if errors.Is(err, backend.ErrDecryption) {
		return errDecryption
	}
	for _, sentinel := range clientErrors {
		if !errors.Is(err, sentinel) {
			continue
		}
		status := http.StatusBadRequest
		if _, policy := errors.AsType[*managedkey.Error](err); policy && sentinel == backend.ErrNotPermitted {
			status = http.StatusForbidden // the grant or a usage of the managed key
		}
		said := strings.TrimPrefix(err.Error(), "transit: ")
		if sentinel == backend.ErrInvalidParams { // the status says so
			said = strings.TrimSuffix(said, ": "+sentinel.Error())
		}
		return httpapi.Errorf(status, "%s", said)
	}
	return httpapi.StatusOf(err)
}

// message returns the text of an answer. What has none is an object that isn't there.
func message(answer *httpapi.Error) string {
	if len(answer.Messages) == 0 {
		return "not found"
	}
	return answer.Messages[0]
}
