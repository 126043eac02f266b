package awskms

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/managedkeys/managedkeys/backend"
)

const (
	testID  = "1234abcd-12ab-34cd-56ef-1234567890ab"
	testMRK = "mrk-1234abcd12ab34cd56ef1234567890ab"
)

// TestIdentifier: every form of a key's name that the service has, and what it says.
func TestIdentifier(t *testing.T) {
	for text, want := range map[string]identifier{
		testID:                              {key: testID},
		testMRK:                             {key: testMRK},
		"alias/name":                        {alias: "alias/name"},
		"alias/aws/s3":                      {alias: "alias/aws/s3"},
		"alias/a/b_C-9":                     {alias: "alias/a/b_C-9"},
		"alias/" + strings.Repeat("x", 250): {alias: "alias/" + strings.Repeat("x", 250)},
		"arn:aws:kms:eu-central-1:111122223333:key/" + testID:          {"aws", "eu-central-1", "111122223333", testID, ""},
		"arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/" + testMRK: {"aws-us-gov", "us-gov-west-1", "111122223333", testMRK, ""},
		"arn:aws-cn:kms:cn-north-1:111122223333:alias/team/issuing":    {"aws-cn", "cn-north-1", "111122223333", "", "alias/team/issuing"},
		"arn:aws-iso-b:kms:us-isob-east-1:111122223333:alias/a":        {"aws-iso-b", "us-isob-east-1", "111122223333", "", "alias/a"},
	} {
		got, err := parseIdentifier(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got)
		assert.Equal(t, text, got.String())
	}
}

// TestNoIdentifier: what is none is refused, and the error says what it takes.
func TestNoIdentifier(t *testing.T) {
	const arn = "arn:aws:kms:eu-central-1:111122223333:"
	for text, says := range map[string]string{
		"":                                  "is missing",
		"name":                              "alias/ is missing",
		"Alias/name":                        "alias/ is missing",
		"alias/":                            "is none",
		"alias/a b":                         "is none",
		"alias/ä":                           "is none",
		"alias/a:b":                         "is none",
		"alias/" + strings.Repeat("x", 251): "257 bytes",
		strings.ToUpper(testID):             "alias/ is missing",
		"{" + testID + "}":                  "alias/ is missing",
		"mrk-" + testID:                     "alias/ is missing",
		"mrk-1234":                          "alias/ is missing",
		"arn:aws:kms":                       "six parts",
		arn:                                 "key/ID or alias/NAME",
		arn + "key/":                        "key/ID or alias/NAME",
		arn + "key/name":                    "key/ID or alias/NAME",
		arn + testID:                        "key/ID or alias/NAME",
		arn + "alias/":                      "is none",
		arn + "key/" + testID + ":x":        "six parts",
		"arn:aws:s3:eu-central-1:111122223333:key/" + testID:    "service",
		"arn:azure:kms:eu-central-1:111122223333:key/" + testID: "partition",
		"arn:aws:kms::111122223333:key/" + testID:               "Region",
		"arn:aws:kms:evil.example/:111122223333:key/" + testID:  "Region",
		"arn:aws:kms:eu-central-1:1111:key/" + testID:           "12 digits",
		"arn:aws:kms:eu-central-1:11112222333x:key/" + testID:   "12 digits",
	} {
		_, err := parseIdentifier(text)
		assert.ErrorIs(t, err, backend.ErrInvalidParams, text)
		assert.ErrorContains(t, err, "awskms: kms_key: ")
		assert.ErrorContains(t, err, says, text)
	}
}

// FuzzIdentifier: what is taken is written as it was read, and its Region can be part of a host name.
func FuzzIdentifier(f *testing.F) {
	for _, s := range []string{testID, testMRK, "alias/a", "arn:aws:kms:eu-central-1:111122223333:key/" + testID, "arn:aws-cn:kms:cn-north-1:111122223333:alias/x", "arn:::::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := parseIdentifier(s)
		if err != nil {
			assert.ErrorIs(t, err, backend.ErrInvalidParams)
			return
		}
		assert.Equal(t, s, id.String())
		assert.NotEqual(t, id.key == "", id.alias == "")
		if id.region != "" {
			assert.NotContains(t, id.region, ".")
			assert.True(t, isRegion(id.region))
		}
	})
}
