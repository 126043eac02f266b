package transit

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/managedkeys/managedkeys/backend"
)

// A stream is
//
//	"MKST"                       4 bytes
//	version                      1 byte, 1
//	format                       1 byte, 1 for StreamAESGCMHKDF
//	size of a segment            4 bytes, big-endian
//	length of the wrapped key    2 bytes, big-endian
//	wrapped key                  the data key of 32 bytes as Encrypt returns it, vault:v<version>:<base64>
//	encrypted data               as the format has it
//
// Of StreamAESGCMHKDF the encrypted data is a stream of Tink's AES-GCM-HKDF (https://developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming)
// with the data key as main key, SHA-256 for HKDF, a derived key of 32 bytes, segments of that size from offset 0, and as associated
// data the first 10 bytes of the header and then that of the caller. It is
//
//	40 ‖ salt (32 bytes) ‖ nonce prefix (7 bytes) ‖ segments
//
// where the header of 40 bytes counts for the first segment, and each segment is AES-256-GCM by the key that HKDF derives of data key,
// salt and associated data, with the nonce prefix ‖ number (4 bytes, big-endian, from 0) ‖ 1 if it is the last, and otherwise 0. Segments
// that are lost, repeated, in another order, or after the last one are not decrypted, nor is a stream that ends before it.
//
// The wrapped key is authenticated by the transit key, which is why it can be replaced (see Engine.RewrapStream).

// StreamFormat is how the data of a stream is encrypted.
type StreamFormat uint8

// StreamAESGCMHKDF is Tink's AES-GCM-HKDF with AES-256 and SHA-256.
const StreamAESGCMHKDF StreamFormat = 1

// Sizes of segments in bytes, with what is added to each of them.
const (
	MinStreamSegment     = 4 << 10
	DefaultStreamSegment = 64 << 10
	MaxStreamSegment     = 1 << 20
)

// StreamOptions say how a stream is encrypted, or was.
type StreamOptions struct {
	// Format must be given for encrypting. For decrypting it may be 0, for each format that is known.
	Format StreamFormat

	// SegmentSize is that of the segments for encrypting, MinStreamSegment to MaxStreamSegment bytes; 0 is DefaultStreamSegment.
	// Two segments are in memory at a time. A stream has fewer than 2³² of them. For decrypting it is not looked at.
	SegmentSize int

	// AssociatedData is authenticated together with the data and not part of the stream.
	AssociatedData []byte

	Context    []byte // of a derived key, as in EncryptRequest; it wraps the data key
	KeyVersion int    // that wraps the data key; 0 is the latest. For decrypting it is not looked at.
}

const (
	streamMagic   = "MKST"
	streamVersion = 1
	streamFixed   = len(streamMagic) + 1 + 1 + 4 // bytes that never change
	streamKey     = 32                           // bytes of a data key
)

// streamHeader is what stands before the encrypted data.
type streamHeader struct {
	format  StreamFormat
	segment int
	wrapped string
}

// fixed returns what is authenticated together with the data.
func (h *streamHeader) fixed() []byte {
	out := append(make([]byte, 0, streamFixed+2+len(h.wrapped)), streamMagic...)
	return binary.BigEndian.AppendUint32(append(out, streamVersion, byte(h.format)), uint32(h.segment))
}

func (h *streamHeader) encode() []byte {
	return append(binary.BigEndian.AppendUint16(h.fixed(), uint16(len(h.wrapped))), h.wrapped...)
}

// info is the associated data of the encrypted data.
func (h *streamHeader) info(associatedData []byte) string {
	return string(slices.Concat(h.fixed(), associatedData))
}

// readStreamHeader reads exactly the header from r.
func readStreamHeader(r io.Reader) (*streamHeader, error) {
	var head [streamFixed + 2]byte
	if err := readHeader(r, head[:]); err != nil {
		return nil, err
	}
	h := &streamHeader{format: StreamFormat(head[5]), segment: int(binary.BigEndian.Uint32(head[6:]))}
	switch {
	case string(head[:4]) != streamMagic:
		return nil, invalid("invalid stream: it begins with %q; it takes %q", head[:4], streamMagic)
	case head[4] != streamVersion:
		return nil, unsupported("stream of version %d; it takes %d", head[4], streamVersion)
	case h.format != StreamAESGCMHKDF:
		return nil, unsupported("stream of format %d; it takes %d", h.format, StreamAESGCMHKDF)
	case h.segment < MinStreamSegment || h.segment > MaxStreamSegment:
		return nil, invalid("invalid stream: segments of %d bytes; it takes %d to %d", h.segment, MinStreamSegment, MaxStreamSegment)
	}
	wrapped := make([]byte, binary.BigEndian.Uint16(head[streamFixed:]))
	if err := readHeader(r, wrapped); err != nil {
		return nil, err
	}
	h.wrapped = string(wrapped)
	_, _, err := parse("wrapped key of a stream", h.wrapped)
	return h, err
}

func readHeader(r io.Reader, p []byte) error {
	switch _, err := io.ReadFull(r, p); {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return invalid("invalid stream: it ends within its header")
	case err != nil:
		return fmt.Errorf("transit: read a stream: %w", err)
	}
	return nil
}

// NewEncryptingWriter returns a writer that encrypts what is written to it and writes that to w, in constant memory. The stream is whole
// only after Close has returned nil; Close doesn't close w. What is written may be of any size, and wherever it was interrupted the rest
// isn't accepted as a stream.
//
// It makes one call, to encrypt a new data key with the transit key of that name, for which ctx is used and not kept; the data itself is
// encrypted in this process, with AES-256-GCM. The format must be chosen. The error is as for [Engine.Encrypt], or what w returned. The
// writer is for one goroutine; after an error it returns that always.
func (e *Engine) NewEncryptingWriter(ctx context.Context, name string, w io.Writer, opts StreamOptions) (io.WriteCloser, error) {
	if opts.SegmentSize == 0 {
		opts.SegmentSize = DefaultStreamSegment
	}
	switch {
	case opts.Format == 0:
		return nil, invalid("stream format: none is chosen; it takes StreamAESGCMHKDF")
	case opts.Format != StreamAESGCMHKDF:
		return nil, unsupported("stream of format %d; it takes %d", opts.Format, StreamAESGCMHKDF)
	case opts.SegmentSize < MinStreamSegment || opts.SegmentSize > MaxStreamSegment:
		return nil, invalid("stream segments of %d bytes; it takes %d to %d", opts.SegmentSize, MinStreamSegment, MaxStreamSegment)
	}
	h := &streamHeader{format: opts.Format, segment: opts.SegmentSize}
	dataKey := randomBytes(streamKey)
	defer clear(dataKey)
	var err error
	if h.wrapped, err = e.wrapStreamKey(ctx, name, dataKey, &opts); err != nil {
		return nil, err
	}
	return newStreamWriter(w, h, dataKey, opts.AssociatedData)
}

func (e *Engine) wrapStreamKey(ctx context.Context, name string, dataKey []byte, opts *StreamOptions) (string, error) {
	wrapped, err := e.Encrypt(ctx, name, EncryptRequest{Plaintext: dataKey, Context: opts.Context, KeyVersion: opts.KeyVersion})
	if err == nil && len(wrapped) > 1<<16-1 {
		err = unsupported("stream: the key manager has a ciphertext of %d bytes for a data key", len(wrapped))
	}
	return wrapped, err
}

// NewDecryptingReader returns a reader of what was written to the writer that NewEncryptingWriter returned, from the stream r, with the
// same associated data and context, in constant memory. It makes one call, to decrypt the data key.
//
// What Read returns without an error is authentic as far as it goes, but may be the beginning of the data only: all of it was there if
// Read has returned io.EOF. A stream that was changed or cut, or is one of another key, gives an error that wraps
// [backend.ErrDecryption]; one that is malformed from the beginning [backend.ErrInvalidParams] or [backend.ErrUnsupported]. Other
// errors are those of [Engine.Decrypt] and of r. The reader is for one goroutine; after an error it returns that always.
func (e *Engine) NewDecryptingReader(ctx context.Context, name string, r io.Reader, opts StreamOptions) (io.Reader, error) {
	h, err := readStreamHeader(r)
	if err != nil {
		return nil, err
	}
	if opts.Format != 0 && opts.Format != h.format {
		return nil, invalid("stream of format %d; it was to be %d", h.format, opts.Format)
	}
	dataKey, err := e.unwrapStreamKey(ctx, name, h, &opts)
	if err != nil {
		return nil, err
	}
	defer clear(dataKey)
	return newStreamReader(r, h, dataKey, opts.AssociatedData)
}

func (e *Engine) unwrapStreamKey(ctx context.Context, name string, h *streamHeader, opts *StreamOptions) ([]byte, error) {
	dataKey, err := e.Decrypt(ctx, name, DecryptRequest{Ciphertext: h.wrapped, Context: opts.Context})
	if err == nil && len(dataKey) != streamKey {
		clear(dataKey)
		return nil, streamError(backend.ErrDecryption)
	}
	return dataKey, err
}

// RewrapStream copies a stream from r to w with its data key encrypted again, by version opts.KeyVersion of the key, 0 for the
// latest, so that the version that it had can be given up. It makes two calls; the data isn't decrypted, nor looked at.
func (e *Engine) RewrapStream(ctx context.Context, name string, w io.Writer, r io.Reader, opts StreamOptions) error {
	h, err := readStreamHeader(r)
	if err != nil {
		return err
	}
	dataKey, err := e.unwrapStreamKey(ctx, name, h, &opts)
	if err != nil {
		return err
	}
	defer clear(dataKey)
	if h.wrapped, err = e.wrapStreamKey(ctx, name, dataKey, &opts); err != nil {
		return err
	}
	if _, err = w.Write(h.encode()); err == nil {
		_, err = io.Copy(w, r)
	}
	if err != nil {
		return streamError(err)
	}
	return nil
}
