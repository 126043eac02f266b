package store

import (
	"context"
	"iter"
)

// All yields the records under prefix, page by page, in the order of List. Records that are written or deleted meanwhile
// may or may not be among them. The sequence ends after the first error.
func All(ctx context.Context, s Store, prefix string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		after := ""
		for {
			page, err := s.List(ctx, prefix, after, MaxPage)
			if err != nil {
				yield(Record{}, err)
				return
			}
			for _, record := range page.Records {
				if !yield(record, nil) {
					return
				}
				after = record.Key
			}
			if !page.More || len(page.Records) == 0 {
				return
			}
		}
	}
}

// Load returns the records under prefix, in the order of List, and the revision from which to watch for changes: that of
// the first page. Changes that were made while later pages were read come again in the watch, with versions that are
// not greater than those of the records.
func Load(ctx context.Context, s Store, prefix string) (records []Record, revision uint64, err error) {
	for after := ""; ; {
		page, err := s.List(ctx, prefix, after, MaxPage)
		if err != nil {
			return nil, 0, err
		}
		if after == "" {
			revision = page.Revision
		}
		records = append(records, page.Records...)
		if !page.More || len(page.Records) == 0 {
			return records, revision, nil
		}
		after = page.Records[len(page.Records)-1].Key
	}
}
