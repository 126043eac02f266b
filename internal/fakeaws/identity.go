package fakeaws

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/managedkeys/managedkeys/internal/fakecloud"
)

// identities is what the services beside KMS know.
type identities struct {
	webToken       string // that AssumeRoleWithWebIdentity takes
	containerToken string // that the container's credentials want as Authorization
	ssoToken       string // of IAM Identity Center
	instanceToken  string // session of the metadata service
}

// Role is the role that the server lets be assumed, in each way that there is.
const Role = "arn:aws:iam::" + Account + ":role/signer"

// WebIdentityToken returns the token with which [Role] may be assumed by AssumeRoleWithWebIdentity.
func (s *Server) WebIdentityToken() string { return s.secret(&s.identities.webToken) }

// ContainerToken returns what must be in AWS_CONTAINER_AUTHORIZATION_TOKEN for the container's credentials, which are at
// [Server.URL] + "/container".
func (s *Server) ContainerToken() string { return s.secret(&s.identities.containerToken) }

// SSOToken returns an access token of IAM Identity Center.
func (s *Server) SSOToken() string { return s.secret(&s.identities.ssoToken) }

func (s *Server) secret(at *string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if *at == "" {
		*at = uuid.NewString()
	}
	return *at
}

// temporary gives out temporary credentials.
func (s *Server) temporary() (accessKey string, u user) {
	id := strings.ToUpper(strings.ReplaceAll(uuid.NewString(), "-", ""))
	accessKey = "ASIA" + id[:16]
	u = user{secret: uuid.NewString(), token: "session/" + uuid.NewString(), expires: s.opts.Now().Add(s.opts.TokenLifetime).Truncate(time.Second)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users[accessKey] = &u
	return accessKey, u
}

// serveIdentity deals with requests that are not for KMS.
func (s *Server) serveIdentity(w http.ResponseWriter, r *http.Request, body []byte) {
	op, answer := "", func(http.ResponseWriter) *Error {
		return &Error{Status: http.StatusNotFound, Code: "NotFound", Message: r.URL.Path}
	}
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/":
		form, _ := url.ParseQuery(string(body))
		op = form.Get("Action")
		answer = func(w http.ResponseWriter) *Error { return s.serveSTS(w, r, body, form) }
	case r.URL.Path == "/container":
		op = "ContainerCredentials"
		answer = func(w http.ResponseWriter) *Error {
			if r.Header.Get("Authorization") != s.ContainerToken() {
				return &Error{Status: http.StatusUnauthorized, Code: "Unauthorized", Message: "no such token"}
			}
			s.writeCredentials(w)
			return nil
		}
	case r.URL.Path == "/federation/credentials":
		op = "GetRoleCredentials"
		answer = func(w http.ResponseWriter) *Error { return s.serveSSO(w, r) }
	case strings.HasPrefix(r.URL.Path, "/latest/"):
		op = "InstanceMetadata"
		answer = func(w http.ResponseWriter) *Error { return s.serveMetadata(w, r) }
	}
	s.Log.Add(fakecloud.Request{Op: op})
	if fault, met := s.Script.Next(op); met {
		fault.Wait(r.Context())
		if fault.Drop || fault.Error != nil {
			spoil(w, fault)
			return
		}
	}
	if fail := answer(w); fail != nil {
		fail.writeXML(w)
	}
}

// writeXML writes an error as STS does; the others look at the status only.
func (e *Error) writeXML(w http.ResponseWriter) {
	status := e.Status
	if status == 0 {
		status = http.StatusForbidden
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>", e.Code)
	xml.EscapeText(w, []byte(e.Message))
	fmt.Fprintf(w, "</Message></Error><RequestId>%s</RequestId></ErrorResponse>", uuid.NewString())
}

// serveSTS serves Security Token Service.
//
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
func (s *Server) serveSTS(w http.ResponseWriter, r *http.Request, body []byte, form url.Values) *Error {
	op := form.Get("Action")
	switch op {
	case "AssumeRole":
		if _, fail := s.authenticate(r, body, "sts"); fail != nil {
			return fail
		}
	case "AssumeRoleWithWebIdentity":
		if form.Get("WebIdentityToken") != s.WebIdentityToken() {
			return errorf("InvalidIdentityToken", "the token is not one of the provider")
		}
	default:
		return errorf("InvalidAction", "%s", op)
	}
	if form.Get("RoleArn") != Role {
		return errorf("AccessDenied", "not authorized to perform: sts:%s on resource: %s", op, form.Get("RoleArn"))
	}
	accessKey, u := s.temporary()
	w.Header().Set("Content-Type", "text/xml")
	fmt.Fprintf(w, `<%[1]sResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><%[1]sResult><AssumedRoleUser><AssumedRoleId>AROAFAKE:session</AssumedRoleId>`+
		`<Arn>arn:aws:sts::%[2]s:assumed-role/signer/session</Arn></AssumedRoleUser><Credentials><AccessKeyId>%[3]s</AccessKeyId><SecretAccessKey>%[4]s</SecretAccessKey>`+
		`<SessionToken>%[5]s</SessionToken><Expiration>%[6]s</Expiration></Credentials></%[1]sResult><ResponseMetadata><RequestId>%[7]s</RequestId></ResponseMetadata></%[1]sResponse>`,
		op, Account, accessKey, u.secret, u.token, u.expires.UTC().Format(time.RFC3339), uuid.NewString())
	return nil
}

// writeCredentials writes temporary credentials as the container and the metadata service do.
func (s *Server) writeCredentials(w http.ResponseWriter) {
	accessKey, u := s.temporary()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": time.Now().UTC().Format(time.RFC3339),
		"AccessKeyId": accessKey, "SecretAccessKey": u.secret, "Token": u.token, "Expiration": u.expires.UTC().Format(time.RFC3339)})
}

// serveSSO serves the portal of IAM Identity Center.
//
// https://docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html
func (s *Server) serveSSO(w http.ResponseWriter, r *http.Request) *Error {
	query := r.URL.Query()
	if r.Header.Get("X-Amz-Sso_bearer_token") != s.SSOToken() || query.Get("account_id") != Account || query.Get("role_name") != "signer" {
		return &Error{Status: http.StatusUnauthorized, Code: "UnauthorizedException", Message: "Session token not found or invalid"}
	}
	accessKey, u := s.temporary()
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"roleCredentials": map[string]any{
		"accessKeyId": accessKey, "secretAccessKey": u.secret, "sessionToken": u.token, "expiration": u.expires.UnixMilli()}})
	return nil
}

// serveMetadata serves version 2 of the instance metadata service.
//
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
func (s *Server) serveMetadata(w http.ResponseWriter, r *http.Request) *Error {
	token := s.secret(&s.identities.instanceToken)
	if r.Method == http.MethodPut && r.URL.Path == "/latest/api/token" {
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
		fmt.Fprint(w, token)
		return nil
	}
	if r.Header.Get("X-Aws-Ec2-Metadata-Token") != token {
		return &Error{Status: http.StatusUnauthorized, Code: "Unauthorized", Message: "no such token"}
	}
	switch r.URL.Path {
	case "/latest/meta-data/iam/security-credentials/", "/latest/meta-data/iam/security-credentials-extended/":
		fmt.Fprint(w, "signer")
	case "/latest/meta-data/iam/security-credentials/signer", "/latest/meta-data/iam/security-credentials-extended/signer":
		s.writeCredentials(w)
	case "/latest/dynamic/instance-identity/document":
		fmt.Fprintf(w, `{"region":%q,"accountId":%q}`, DefaultRegion, Account)
	default:
		return &Error{Status: http.StatusNotFound, Code: "NotFound", Message: r.URL.Path}
	}
	return nil
}
