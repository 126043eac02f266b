package backendtest

import "bytes"

// tampered returns ways to damage data: a bit flipped in each region, cut short, extended, emptied and replaced.
func tampered(data []byte) map[string][]byte {
	flip := func(i int) []byte {
		out := bytes.Clone(data)
		if len(out) > 0 {
			out[i] ^= 0x10
		}
		return out
	}
	n := len(data)
	return map[string][]byte{
		"changed in its first byte":     flip(0),
		"changed in its first quarter":  flip(n / 4),
		"changed in its middle":         flip(n / 2),
		"changed in its third quarter":  flip(3 * n / 4),
		"changed in its last byte":      flip(n - 1),
		"cut by a byte":                 data[:n-1],
		"cut by half":                   data[:n/2],
		"one byte longer":               append(bytes.Clone(data), 0),
		"empty":                         {},
		"nil":                           nil,
		"as many random bytes":          random(n),
		"a single byte":                 {0},
		"as many zeros":                 make([]byte, n),
		"twice as long":                 append(bytes.Clone(data), data...),
		"without its first byte":        data[1:],
		"with another byte in front":    append([]byte{0}, data...),
		"64 KiB of zeros":               make([]byte, 64<<10),
		"reversed in its first 2 bytes": swap(data),
	}
}

// swap returns data with its first two bytes exchanged, or the first one changed if they are equal.
func swap(data []byte) []byte {
	out := bytes.Clone(data)
	out[0], out[1] = out[1], out[0]
	if out[0] == out[1] {
		out[0] ^= 1
	}
	return out
}
