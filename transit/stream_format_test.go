package transit

import (
	"bytes"
	"crypto"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/managedkeys/managedkeys/backend"
)

// update writes the stream in testdata again, which nobody should need: it is there to stay readable.
var update = flag.Bool("update-stream", false, "write testdata/stream.json")

// A stream of the first version of the format stays readable.
func TestStreamGolden(t *testing.T) {
	const file = "testdata/stream.json"
	h := newSoftHouse(t)
	key := bytes.Repeat([]byte{7}, 32)
	fatal(t, h.engine.ImportKey(t.Context(), "k", Import{Ciphertext: wrapped(t, h.engine, crypto.SHA256, key)}, KeyOptions{Type: TypeAES256}, false))
	opts := smallStream
	opts.AssociatedData = []byte("golden")
	var data bytes.Buffer
	for i := range 2000 {
		fmt.Fprintf(&data, "%d,", i)
	}
	if *update {
		out, err := json.Marshal(encryptStream(t, h.engine, "k", data.Bytes(), opts))
		fatal(t, err)
		fatal(t, os.WriteFile(file, out, 0o644))
	}
	text, err := os.ReadFile(file)
	fatal(t, err)
	var stream []byte
	fatal(t, json.Unmarshal(text, &stream))
	if got, err := decryptStream(t, h.engine, "k", stream, opts); err != nil || !bytes.Equal(got, data.Bytes()) {
		t.Errorf("read %d bytes, %v; want %d", len(got), err, data.Len())
	}
}

// After rotation and rewrapping, the version that a stream was made with can be given up; the data is what it was, byte by byte.
func TestRewrapStream(t *testing.T) {
	h := newSoftHouse(t)
	h.addManaged(t, "rsa", allUsages)
	h.addManaged(t, "rsa-2", allUsages)
	h.create(t, "managed", KeyOptions{ManagedKey: "rsa"})
	h.create(t, "derived", KeyOptions{Type: TypeAES256, Derived: true})
	e, ctx, data := h.engine, t.Context(), randomBytes(10_000)
	for name, next := range map[string]string{"managed": "rsa-2", "derived": ""} {
		opts := smallStream
		if name == "derived" {
			opts.Context = []byte("context")
		}
		stream := encryptStream(t, e, name, data, opts)
		fatal(t, e.Rotate(ctx, name, next))
		var out bytes.Buffer
		fatal(t, e.RewrapStream(ctx, name, &out, bytes.NewReader(stream), opts))
		if tail := stream[len(stream)-10_000:]; !bytes.HasSuffix(out.Bytes(), tail) {
			t.Errorf("%s: the data is another one", name)
		}
		two := 2
		fatal(t, e.Configure(ctx, name, Config{MinDecryptionVersion: &two}))
		_, err := decryptStream(t, e, name, stream, opts)
		wantError(t, err, backend.ErrInvalidParams, "too old")
		if got, err := decryptStream(t, e, name, out.Bytes(), opts); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: read %d bytes, %v", name, len(got), err)
		}
		wantError(t, e.RewrapStream(ctx, name, io.Discard, bytes.NewReader(stream), opts), backend.ErrInvalidParams, "too old")
		wantError(t, e.RewrapStream(ctx, name, io.Discard, strings.NewReader("MKST"), opts), backend.ErrInvalidParams, "ends within its header")
		wantError(t, e.RewrapStream(ctx, "nobody", io.Discard, bytes.NewReader(out.Bytes()), opts), backend.ErrKeyNotFound)
		broken := errors.New("disk full")
		for _, room := range []int{0, 5000} {
			if err := e.RewrapStream(ctx, name, &full{room, broken}, bytes.NewReader(out.Bytes()), opts); !errors.Is(err, broken) {
				t.Errorf("%s: got %v; want %v", name, err, broken)
			}
		}
	}
}

// FuzzStreamHeader: what is parsed is what is written, and only as much is read.
func FuzzStreamHeader(f *testing.F) {
	f.Add((&streamHeader{StreamAESGCMHKDF, MinStreamSegment, "vault:v1:AAAA"}).encode())
	f.Add((&streamHeader{StreamAESGCMHKDF, MaxStreamSegment, "vault:v2147483647:" + strings.Repeat("A", 1<<16-20)}).encode())
	f.Add([]byte("MKST\x01\x01\x00\x01\x00\x00\xff\xffvault:v1:"))
	f.Add([]byte("MKST\x02"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		h, err := readStreamHeader(r)
		if err != nil {
			if !errors.Is(err, backend.ErrInvalidParams) && !errors.Is(err, backend.ErrUnsupported) {
				t.Fatalf("got error %v", err)
			}
			return
		}
		if read := data[:len(data)-r.Len()]; !bytes.Equal(h.encode(), read) {
			t.Errorf("%q was parsed as %+v, which is %q", read, h, h.encode())
		}
	})
}

// BenchmarkStream is AES-256-GCM of 64 MiB through the engine.
func BenchmarkStream(b *testing.B) {
	h := newSoftHouse(b)
	h.create(b, "k", KeyOptions{Type: TypeAES256})
	const size = 64 << 20
	chunk := make([]byte, 32<<10)
	for _, segment := range []int{MinStreamSegment, DefaultStreamSegment, MaxStreamSegment} {
		b.Run(fmt.Sprint(segment), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(size)
			for b.Loop() {
				w, err := h.engine.NewEncryptingWriter(b.Context(), "k", io.Discard, StreamOptions{Format: StreamAESGCMHKDF, SegmentSize: segment})
				for range size / len(chunk) {
					if err == nil {
						_, err = w.Write(chunk)
					}
				}
				if err != nil || w.Close() != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
