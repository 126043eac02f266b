package fakegcp

import (
	"encoding/pem"
	"sync"
)

// attestationCert returns the certificate that comes with attestations, in PEM.
var attestationCert = sync.OnceValue(func() string {
	cert, err := selfSigned()
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]}))
})
