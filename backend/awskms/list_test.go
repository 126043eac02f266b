package awskms

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
	"github.com/managedkeys/managedkeys/internal/fakeaws"
	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// TestList: every key of the Region is listed once, over all pages, with an alias and parameters that open it.
func TestList(t *testing.T) {
	srv := serve(t, &fakeaws.Options{PageSize: 3})
	b := connect(t, nil)
	labels := make(map[string]string)
	for i := range 10 {
		k := fakeaws.Key{Spec: "HMAC_256"}
		if i%2 == 0 {
			k.Alias = fmt.Sprintf("alias/%d", i)
		}
		labels[add(t, srv, k)] = k.Alias
	}
	labels[add(t, srv, fakeaws.Key{Spec: "SYMMETRIC_DEFAULT", AWSManaged: true, Alias: "alias/aws/ebs"})] = "alias/aws/ebs"
	add(t, srv, fakeaws.Key{Spec: "HMAC_256", Region: "us-west-2"})
	srv.Log.Clear()
	seen := make(map[string]string)
	for info, err := range b.List(t.Context(), at(srv, Params{})) {
		require.NoError(t, err)
		assert.NotContains(t, seen, info.ID)
		seen[info.ID] = info.Label
		assert.Equal(t, info.ID, open[backend.Key](t, b, info.Params.(Params)).ID())
	}
	assert.Equal(t, labels, seen)
	assert.Equal(t, 4, srv.Log.Count("ListKeys"))
	assert.Equal(t, 3, srv.Log.Count("ListAliases"))

	// In the caller's own configuration no scope is needed.
	n := 0
	for _, err := range fresh(t, srv.Config(), nil).List(t.Context(), nil) {
		require.NoError(t, err)
		n++
	}
	assert.Equal(t, len(labels), n)
}

// TestListFaults: a list that fails, or that makes no sense, is an error and no half of a list.
func TestListFaults(t *testing.T) {
	srv := serve(t, &fakeaws.Options{PageSize: 2})
	b := connect(t, once)
	for range 6 {
		add(t, srv, fakeaws.Key{Spec: "HMAC_256"})
	}
	for name, test := range map[string]struct {
		fault fakecloud.Fault
		want  error
	}{
		"third page":     {fakecloud.Fault{Op: "ListKeys", Skip: 2, Error: busy}, backend.ErrUnavailable},
		"forbidden":      {fakecloud.Fault{Op: "ListAliases", Error: &fakeaws.Error{Code: "AccessDeniedException"}}, backend.ErrNotPermitted},
		"without marker": {fakecloud.Fault{Op: "ListKeys", Corrupt: without("NextMarker")}, backend.ErrIntegrity},
		"in circles":     {fakecloud.Fault{Op: "ListKeys", Times: -1, Corrupt: func(a map[string]any) { a["NextMarker"], a["Truncated"] = "2", true }}, backend.ErrIntegrity},
		"no key":         {fakecloud.Fault{Op: "ListKeys", Corrupt: set("Keys", []map[string]any{{"KeyId": "x"}})}, backend.ErrIntegrity},
		"another Region": {fakecloud.Fault{Op: "ListKeys", Corrupt: set("Keys", []map[string]any{{"KeyArn": "arn:aws:kms:us-west-2:111122223333:key/" + testID}})}, backend.ErrIntegrity},
	} {
		srv.Script.Add(test.fault)
		calls := 0
		for info, err := range b.List(t.Context(), at(srv, Params{})) {
			assert.ErrorIs(t, err, test.want, name)
			assert.Zero(t, info, name)
			calls++
		}
		assert.Equal(t, 1, calls, name)
		srv.Script.Clear()
	}
	for _, scope := range []backend.Params{otherParams{}, Params{Region: "nowhere"}, Params{KMSKey: "x"}} {
		for _, err := range b.List(t.Context(), scope) {
			assert.ErrorIs(t, err, backend.ErrInvalidParams)
		}
	}
}

// TestPages: the marker of a page is what the one before said.
func TestPages(t *testing.T) {
	var asked []string
	err := pages(func(marker *string) (*string, bool, error) {
		asked = append(asked, aws.ToString(marker))
		return aws.String(fmt.Sprint(len(asked))), len(asked) < 4, nil
	})
	assert.NoError(t, err)
	assert.Equal(t, []string{"", "1", "2", "3"}, asked)
}
