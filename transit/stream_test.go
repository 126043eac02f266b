package transit

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
	"pgregory.net/rapid"

	"github.com/managedkeys/managedkeys/backend"
)

// smallStream has the smallest segments.
var smallStream = StreamOptions{Format: StreamAESGCMHKDF, SegmentSize: MinStreamSegment}

func encryptStream(tb testing.TB, e *Engine, name string, data []byte, opts StreamOptions) []byte {
	tb.Helper()
	var out bytes.Buffer
	w, err := e.NewEncryptingWriter(tb.Context(), name, &out, opts)
	if err == nil {
		_, err = w.Write(data)
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		tb.Fatal(err)
	}
	return out.Bytes()
}

func decryptStream(tb testing.TB, e *Engine, name string, stream []byte, opts StreamOptions) ([]byte, error) {
	r, err := e.NewDecryptingReader(tb.Context(), name, bytes.NewReader(stream), opts)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// What was written is read, however it was cut into pieces, for each kind of key that encrypts.
func TestStreamProperty(t *testing.T) {
	h := newSoftHouse(t)
	for _, name := range []string{"rsa", "aes"} {
		h.addManaged(t, name, allUsages)
		h.create(t, "managed-"+name, KeyOptions{ManagedKey: name})
	}
	h.create(t, "xchacha", KeyOptions{Type: TypeXChaCha20Poly1305})
	h.create(t, "derived", KeyOptions{Type: TypeAES128, Derived: true, Convergent: true})
	e, ctx := h.engine, t.Context()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom([]string{"managed-rsa", "managed-aes", "xchacha", "derived"}).Draw(t, "key")
		opts := StreamOptions{Format: StreamAESGCMHKDF, SegmentSize: rapid.SampledFrom([]int{MinStreamSegment, MinStreamSegment + 1, 0}).Draw(t, "segment")}
		opts.AssociatedData = rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "associated data")
		if name == "derived" {
			opts.Context = []byte("context")
		}
		segments, off := rapid.IntRange(0, 4).Draw(t, "segments"), rapid.IntRange(-60, 60).Draw(t, "off")
		data := randomBytes(max(0, segments*(MinStreamSegment-streamTag)+off))
		var out bytes.Buffer
		w, err := e.NewEncryptingWriter(ctx, name, &out, opts)
		if err != nil {
			t.Fatal(err)
		}
		for rest := data; len(rest) > 0; {
			n := min(len(rest), rapid.IntRange(0, 9000).Draw(t, "piece"))
			if got, err := w.Write(rest[:n]); got != n || err != nil {
				t.Fatalf("wrote %d of %d: %v", got, n, err)
			}
			rest = rest[n:]
		}
		if err := errors.Join(w.Close(), w.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(nil); !errors.Is(err, errClosed) {
			t.Fatalf("write after Close: %v", err)
		}
		source := rapid.SampledFrom([]func(io.Reader) io.Reader{
			func(r io.Reader) io.Reader { return r }, iotest.HalfReader, iotest.DataErrReader, iotest.OneByteReader,
		}).Draw(t, "source")
		r, err := e.NewDecryptingReader(ctx, name, source(&out), opts)
		if err != nil {
			t.Fatal(err)
		}
		if err := iotest.TestReader(r, data); err != nil {
			t.Fatal(err)
		}
	})
}

// Tink reads what is written here, and is read here, with the data key and the associated data that are documented.
func TestStreamTink(t *testing.T) {
	h := newSoftHouse(t)
	h.create(t, "k", KeyOptions{Type: TypeAES256})
	e := h.engine
	opts := StreamOptions{Format: StreamAESGCMHKDF, SegmentSize: 5000, AssociatedData: []byte("file 7")}
	for _, size := range []int{0, 1, 4943, 4944, 4945, 9928, 9929, 100_000} {
		data := randomBytes(size)
		stream := encryptStream(t, e, "k", data, opts)
		head, err := readStreamHeader(bytes.NewReader(stream))
		fatal(t, err)
		key, err := e.Decrypt(t.Context(), "k", DecryptRequest{Ciphertext: head.wrapped})
		fatal(t, err)
		theirs, err := subtle.NewAESGCMHKDF(key, "SHA256", 32, 5000, 0)
		fatal(t, err)
		info := append(bytes.Clone(stream[:10]), "file 7"...)
		r, err := theirs.NewDecryptingReader(bytes.NewReader(stream[len(head.encode()):]), info)
		fatal(t, err)
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: Tink reads %d, %v", size, len(got), err)
		}
		var out bytes.Buffer
		out.Write(head.encode())
		w, err := theirs.NewEncryptingWriter(&out, info)
		fatal(t, err)
		w.Write(data)
		fatal(t, w.Close())
		if got, err := decryptStream(t, e, "k", out.Bytes(), opts); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: of Tink's are read %d, %v", size, len(got), err)
		}
	}
}

// No changed byte, no lost or moved segment, and no other key, context or associated data is accepted.
func TestStreamTampered(t *testing.T) {
	h := newSoftHouse(t)
	h.create(t, "k", KeyOptions{Type: TypeAES256})
	h.create(t, "other", KeyOptions{Type: TypeAES256})
	e := h.engine
	opts := smallStream
	opts.AssociatedData = []byte("a")
	const segment, count = MinStreamSegment, 3
	data := randomBytes(count*(segment-streamTag) - streamInner) // so that each is full
	stream := encryptStream(t, e, "k", data, opts)
	other := encryptStream(t, e, "k", data, opts)
	header := len(stream) - count*segment
	refused := func(what string, stream []byte, opts StreamOptions, sentinels ...error) {
		t.Helper()
		got, err := decryptStream(t, e, "k", stream, opts)
		if !bytes.HasPrefix(data, got) {
			t.Errorf("%s: read something that was never written", what)
		}
		for _, sentinel := range sentinels {
			if errors.Is(err, sentinel) {
				return
			}
		}
		t.Errorf("%s: got error %v; want %v", what, err, sentinels)
	}
	malformed := []error{backend.ErrDecryption, backend.ErrInvalidParams, backend.ErrUnsupported}
	for i := range stream {
		bad := bytes.Clone(stream)
		bad[i] ^= 1 << (i % 8)
		if i >= header {
			refused("changed byte", bad, opts, backend.ErrDecryption)
		} else {
			refused("changed byte of the header", bad, opts, malformed...)
		}
	}
	for i := range header {
		refused("cut within the header", stream[:i], opts, backend.ErrInvalidParams)
	}
	for i := header; i < len(stream); i++ {
		if off := (i - header) % segment; off < 45 || off > segment-20 {
			refused("cut", stream[:i], opts, backend.ErrDecryption)
		}
	}
	at := func(s []byte, i int) []byte { return s[header+i*segment : header+(i+1)*segment] }
	join := func(parts ...[]byte) []byte { return bytes.Join(append([][]byte{stream[:header]}, parts...), nil) }
	refused("extended by a byte", join(stream[header:], []byte{0}), opts, backend.ErrDecryption)
	refused("extended by a segment", join(stream[header:], at(stream, 2)), opts, backend.ErrDecryption)
	refused("reordered", join(at(stream, 0), at(stream, 2), at(stream, 1)), opts, backend.ErrDecryption)
	refused("repeated", join(at(stream, 0), at(stream, 1), at(stream, 1), at(stream, 2)), opts, backend.ErrDecryption)
	refused("without the middle", join(at(stream, 0), at(stream, 2)), opts, backend.ErrDecryption)
	refused("spliced", join(at(stream, 0), at(other, 1), at(stream, 2)), opts, backend.ErrDecryption)
	refused("header of another", join(other[header:]), opts, backend.ErrDecryption)
	refused("other associated data", stream, StreamOptions{AssociatedData: []byte("b")}, backend.ErrDecryption)
	refused("no associated data", stream, StreamOptions{}, backend.ErrDecryption)
	refused("a context", stream, StreamOptions{AssociatedData: opts.AssociatedData, Context: []byte("c")}, backend.ErrInvalidParams)
	if _, err := decryptStream(t, e, "other", stream, opts); !errors.Is(err, backend.ErrDecryption) {
		t.Errorf("another key: got %v", err)
	}
	short, err := e.Encrypt(t.Context(), "k", EncryptRequest{Plaintext: make([]byte, 16)})
	fatal(t, err)
	refused("a key of 16 bytes", append((&streamHeader{StreamAESGCMHKDF, segment, short}).encode(), stream[header:]...), opts, backend.ErrDecryption)
}

func TestStreamRefused(t *testing.T) {
	h := newSoftHouse(t)
	h.create(t, "k", KeyOptions{Type: TypeAES256})
	h.create(t, "signs", KeyOptions{Type: TypeP256})
	e, ctx := h.engine, t.Context()
	for name, c := range map[string]struct {
		key      string
		opts     StreamOptions
		sentinel error
		text     string
	}{
		"no format":    {"k", StreamOptions{}, backend.ErrInvalidParams, "none is chosen"},
		"other format": {"k", StreamOptions{Format: 2}, backend.ErrUnsupported, "format 2"},
		"small":        {"k", StreamOptions{Format: 1, SegmentSize: 4095}, backend.ErrInvalidParams, "4096 to 1048576"},
		"large":        {"k", StreamOptions{Format: 1, SegmentSize: 1<<20 + 1}, backend.ErrInvalidParams, "4096 to 1048576"},
		"no key":       {"nobody", smallStream, backend.ErrKeyNotFound, "encryption key not found"},
		"signing key":  {"signs", smallStream, backend.ErrUnsupported, "ecdsa-p256"},
		"version":      {"k", StreamOptions{Format: 1, KeyVersion: 2}, backend.ErrInvalidParams, "higher than the latest"},
	} {
		var out bytes.Buffer
		w, err := e.NewEncryptingWriter(ctx, c.key, &out, c.opts)
		if w != nil || out.Len() > 0 {
			t.Errorf("%s: something was written", name)
		}
		wantError(t, err, c.sentinel, c.text)
	}
	stream := encryptStream(t, e, "k", nil, smallStream)
	_, err := decryptStream(t, e, "k", stream, StreamOptions{Format: 2})
	wantError(t, err, backend.ErrInvalidParams, "stream of format 1; it was to be 2")
}

// Errors of what is read and written come through, and are final.
func TestStreamBroken(t *testing.T) {
	h := newSoftHouse(t)
	h.create(t, "k", KeyOptions{Type: TypeAES256})
	e, ctx := h.engine, t.Context()
	data := make([]byte, 20_000)
	stream := encryptStream(t, e, "k", data, smallStream)
	broken := errors.New("broken pipe")
	for _, at := range []int{0, 5, 20, len(stream) / 2, len(stream)} {
		for _, failure := range []error{broken, io.ErrUnexpectedEOF} {
			source := io.MultiReader(bytes.NewReader(stream[:at]), iotest.ErrReader(failure))
			r, err := e.NewDecryptingReader(ctx, "k", source, smallStream)
			if err == nil {
				_, err = io.ReadAll(r)
				if n, again := r.Read(make([]byte, 1)); n != 0 || again != err && (err != nil || again != io.EOF) {
					t.Errorf("after %v: read %d, %v", err, n, again)
				}
			}
			whole := at == len(stream) && failure == io.ErrUnexpectedEOF // the end is authentic
			if header := failure == io.ErrUnexpectedEOF && errors.Is(err, backend.ErrInvalidParams) && at <= 20; !errors.Is(err, failure) && !whole && !header {
				t.Errorf("a source that breaks at %d: got %v; want %v", at, err, failure)
			}
		}
	}
	for room := 0; room < len(stream); room += 997 {
		w, err := e.NewEncryptingWriter(ctx, "k", &full{room, broken}, smallStream)
		if err == nil {
			_, err = w.Write(data)
			if closing := w.Close(); err == nil {
				err = closing
			} else if closing != err {
				t.Errorf("Close after %v: %v", err, closing)
			}
		}
		if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "transit: stream: ") {
			t.Errorf("room for %d bytes: got %v", room, err)
		}
	}
}

// full takes so many bytes.
type full struct {
	room int
	err  error
}

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, f.err
	}
	return len(p), nil
}

// A stream that is much larger than what memory it takes.
func TestStreamMemory(t *testing.T) {
	h := newSoftHouse(t)
	h.create(t, "k", KeyOptions{Type: TypeAES256})
	const size, limit = 64 << 20, 8 << 20
	opts := StreamOptions{Format: StreamAESGCMHKDF, SegmentSize: MaxStreamSegment}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	pr, pw := io.Pipe()
	go func() {
		w, err := h.engine.NewEncryptingWriter(t.Context(), "k", pw, opts)
		chunk := make([]byte, 1<<16)
		for range size / len(chunk) {
			if err == nil {
				_, err = w.Write(chunk)
			}
		}
		if err == nil {
			err = w.Close()
		}
		pw.CloseWithError(err)
	}()
	r, err := h.engine.NewDecryptingReader(t.Context(), "k", pr, opts)
	fatal(t, err)
	n, err := io.Copy(io.Discard, r)
	runtime.ReadMemStats(&after)
	if err != nil || n != size {
		t.Fatalf("read %d bytes, %v", n, err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > limit {
		t.Errorf("writing and reading %d bytes allocated %d; it may be %d", size, got, limit)
	}
}
