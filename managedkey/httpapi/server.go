package httpapi

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"time"
)

// NewServer returns a server for h whose clients can't hold it up: headers are to come within 5 s and have at most 16 KiB, requests
// as a whole within 30 s, answers are written within 2 minutes, and connections that are idle are closed after 2 minutes. It serves
// HTTP/1.1 and HTTP/2, and TLS 1.2 at least. config may be nil for a server without TLS. It logs nothing about connections.
func NewServer(h http.Handler, config *tls.Config) *http.Server {
	if config != nil {
		config = config.Clone()
		config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	}
	return &http.Server{
		Handler: h, TLSConfig: config,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 2 * time.Minute, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 16 << 10,
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: 128},
		ErrorLog:       log.New(io.Discard, "", 0),
	}
}
