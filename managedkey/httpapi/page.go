package httpapi

import (
	"net/http"
	"slices"
	"strconv"
)

// page returns the part of a sorted list that the request asks for, with after and limit. The error is errNothing if it is empty.
func (c *call) page(keys []string) ([]string, error) {
	query := c.r.URL.Query()
	for _, name := range []string{"after", "limit"} {
		if len(query[name]) > 1 {
			return nil, refuse(http.StatusBadRequest, "parameter %s: it is taken once", name)
		}
	}
	if after := query.Get("after"); after != "" {
		i, found := slices.BinarySearch(keys, after)
		if found {
			i++
		}
		keys = keys[i:]
	}
	if text := query.Get("limit"); text != "" {
		limit, err := strconv.Atoi(text)
		if err != nil {
			return nil, refuse(http.StatusBadRequest, "parameter limit: it takes a whole number")
		}
		if limit > 0 {
			keys = keys[:min(limit, len(keys))]
		}
	}
	if len(keys) == 0 {
		return nil, errNothing
	}
	return keys, nil
}
