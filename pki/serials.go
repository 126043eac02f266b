package pki

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/managedkeys/managedkeys/managedkey/store"
)

// Serials returns the serial numbers of certificates in ascending order, as [FormatSerial] has them: those after the one that is
// given, from the beginning if that is empty, and at most limit of them, all if that is 0. It reads no certificate.
func (a *Authority) Serials(ctx context.Context, after string, limit int) ([]string, error) {
	from, err := serialAfter(after, limit)
	if err != nil {
		return nil, err
	}
	var out []string
	if from != "" {
		from = a.prefix + "certs/" + from
	}
	for {
		size := store.MaxPage
		if limit > 0 {
			size = min(size, limit-len(out))
		}
		page, err := a.store.List(ctx, a.prefix+"certs/", from, size)
		if err != nil {
			return nil, fmt.Errorf("pki: serials: %w", err)
		}
		for _, record := range page.Records {
			serial, err := serialIn(record)
			if err != nil {
				return nil, err
			}
			out = append(out, FormatSerial(serial))
			from = record.Key
		}
		if !page.More || len(page.Records) == 0 || limit > 0 && len(out) >= limit {
			return out, nil
		}
	}
}

// RevokedSerials is Serials for the certificates that are revoked, whoever signed them.
func (a *Authority) RevokedSerials(ctx context.Context, after string, limit int) ([]string, error) {
	from, err := serialAfter(after, limit)
	if err != nil {
		return nil, err
	}
	var found []*big.Int
	for record, err := range a.all(ctx, "revoked/") {
		if err != nil {
			return nil, err
		}
		if record.Key[strings.LastIndexByte(record.Key, '/')+1:] <= from {
			continue
		}
		serial, err := serialIn(record)
		if err != nil {
			return nil, err
		}
		found = append(found, serial)
	}
	slices.SortFunc(found, (*big.Int).Cmp)
	if limit > 0 {
		found = found[:min(limit, len(found))]
	}
	out := make([]string, len(found))
	for i, serial := range found {
		out[i] = FormatSerial(serial)
	}
	return out, nil
}

// serialAfter returns how keys have the serial number that a list begins after.
func serialAfter(after string, limit int) (string, error) {
	if limit < 0 {
		return "", invalid("serials: limit %d; it takes 0 or more", limit)
	}
	if after == "" {
		return "", nil
	}
	serial, err := ParseSerial(after)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%040x", serial), nil
}

// serialIn returns the serial number that a record's key ends with.
func serialIn(record store.Record) (*big.Int, error) {
	serial, ok := new(big.Int).SetString(record.Key[strings.LastIndexByte(record.Key, '/')+1:], 16)
	if !ok {
		return nil, fmt.Errorf("pki: %s: %w: its end is no serial number", record.Key, store.ErrCorrupt)
	}
	return serial, nil
}
