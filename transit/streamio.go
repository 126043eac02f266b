package transit

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle/noncebased"

	"github.com/managedkeys/managedkeys/backend"
)

// Parts of Tink's AES-GCM-HKDF.
const (
	streamPrefix = 7                             // bytes of the nonce that are drawn at random
	streamSalt   = 32                            // bytes, as many as the derived key has
	streamInner  = 1 + streamSalt + streamPrefix // bytes before the first segment, the first of which says so
	streamNonce  = 12
	streamTag    = 16
)

// segments encrypts and decrypts the segments of a stream.
type segments struct{ cipher.AEAD }

func newSegments(dataKey, salt []byte, info string) (segments, error) {
	key, err := hkdf.Key(sha256.New, dataKey, salt, info, streamSalt)
	if err != nil {
		return segments{}, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return segments{}, err
	}
	aead, err := cipher.NewGCM(block)
	return segments{aead}, err
}

func (s segments) EncryptSegment(segment, nonce []byte) ([]byte, error) {
	return s.EncryptSegmentWithDst(nil, segment, nonce)
}

// EncryptSegmentWithDst is what package noncebased calls so that the buffers of one segment serve the next.
func (s segments) EncryptSegmentWithDst(dst, segment, nonce []byte) ([]byte, error) {
	if cap(dst) == 0 {
		dst = make([]byte, 0, len(segment)+streamInner+streamTag) // the first is shorter than the others
	}
	return s.Seal(dst, nonce, segment, nil), nil
}

func (s segments) DecryptSegment(segment, nonce []byte) ([]byte, error) {
	return s.DecryptSegmentWithDst(nil, segment, nonce)
}

// DecryptSegmentWithDst is as EncryptSegmentWithDst.
func (s segments) DecryptSegmentWithDst(dst, segment, nonce []byte) ([]byte, error) {
	if cap(dst) == 0 {
		dst = make([]byte, 0, len(segment)+streamInner)
	}
	return s.Open(dst, nonce, segment, nil)
}

// streamError explains an error of a stream.
func streamError(err error) error { return fmt.Errorf("transit: stream: %w", err) }

// streamWriter encrypts a stream.
type streamWriter struct {
	w   *noncebased.Writer
	err error // the first, or errClosed
}

var errClosed = errors.New("write after Close")

func newStreamWriter(w io.Writer, h *streamHeader, dataKey, associatedData []byte) (*streamWriter, error) {
	inner := append([]byte{streamInner}, randomBytes(streamSalt+streamPrefix)...)
	s, err := newSegments(dataKey, inner[1:1+streamSalt], h.info(associatedData))
	if err != nil {
		return nil, streamError(err)
	}
	if _, err := w.Write(append(h.encode(), inner...)); err != nil {
		return nil, streamError(err)
	}
	out, err := noncebased.NewWriter(noncebased.WriterParams{
		W: w, SegmentEncrypter: s, NonceSize: streamNonce, NoncePrefix: inner[1+streamSalt:],
		PlaintextSegmentSize: h.segment - streamTag, FirstCiphertextSegmentOffset: streamInner,
	})
	if err != nil {
		return nil, streamError(err)
	}
	return &streamWriter{w: out}, nil
}

// Write implements io.Writer.
func (s *streamWriter) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.w.Write(p)
	if err != nil {
		s.err = streamError(err)
	}
	return n, s.err
}

// Close implements io.Closer: it ends the stream. Closing again does nothing.
func (s *streamWriter) Close() error {
	switch {
	case errors.Is(s.err, errClosed):
		return nil
	case s.err != nil:
		return s.err // a stream with a hole must not have an end
	}
	if err := s.w.Close(); err != nil {
		s.err = streamError(err)
		return s.err
	}
	s.err = streamError(errClosed)
	return nil
}

// source is where an encrypted stream comes from. It tells errors of that from wrong segments.
type source struct {
	r   io.Reader
	err error // what r returned, if that isn't io.EOF
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// streamReader decrypts a stream.
type streamReader struct {
	from *source
	r    *noncebased.Reader
	err  error // the first, io.EOF among them
}

func newStreamReader(r io.Reader, h *streamHeader, dataKey, associatedData []byte) (*streamReader, error) {
	from := &source{r: r}
	inner := make([]byte, streamInner)
	if _, err := io.ReadFull(from, inner); err != nil {
		return nil, from.explain()
	}
	s, err := newSegments(dataKey, inner[1:1+streamSalt], h.info(associatedData))
	if err != nil {
		return nil, streamError(err)
	}
	if inner[0] != streamInner {
		return nil, from.explain()
	}
	in, err := noncebased.NewReader(noncebased.ReaderParams{
		R: from, SegmentDecrypter: s, NonceSize: streamNonce, NoncePrefix: bytes.Clone(inner[1+streamSalt:]),
		CiphertextSegmentSize: h.segment, FirstCiphertextSegmentOffset: streamInner,
	})
	if err != nil {
		return nil, streamError(err)
	}
	return &streamReader{from: from, r: in}, nil
}

// explain returns the error of a stream that can't be decrypted: the source's, if that failed.
func (s *source) explain() error {
	if s.err != nil {
		return streamError(s.err)
	}
	return streamError(backend.ErrDecryption)
}

// Read implements io.Reader.
func (s *streamReader) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.r.Read(p)
	switch {
	case err == io.EOF:
		s.err = err
	case err != nil:
		s.err = s.from.explain()
	}
	return n, s.err
}
