package faultp11

// Sessions returns the number of sessions that were opened through the shim and are open, without those that
// [Module.LostSessions] counts.
func (m *Module) Sessions() int { return int(m.call("sessions", nil, 0)) }

// LostSessions returns the number of sessions that are open although C_OpenSession returned an error by a rule, so that
// nobody can close them one by one.
func (m *Module) LostSessions() int { return int(m.call("sessions", nil, 1)) }

// UserLogins returns the number of logins of the user, context-specific ones included, that reached the token since
// Require, whatever became of them.
func (m *Module) UserLogins() int { return int(m.call("user_logins", nil)) }

// WrongPINs returns the number of those logins that the token refused because of the PIN. Real tokens lock after a few.
func (m *Module) WrongPINs() int { return int(m.call("wrong_pins", nil)) }

// OverlappingFinalizes returns the number of calls of C_Finalize, since Require, that began while other calls were running
// or hanging. The standard leaves that undefined, and many modules crash; this one waits until the others have left the
// real module.
func (m *Module) OverlappingFinalizes() int { return int(m.call("overlaps", nil)) }

// CloseAllSessions closes all sessions of all tokens on the real module, as if the HSM had dropped them, and with them the
// login. It waits for calls that are in the real module, as do the methods below that act on it.
func (m *Module) CloseAllSessions() error {
	return failure("C_CloseAllSessions", m.call("close_all_sessions", nil))
}

// Logout logs out of all tokens that have sessions, as if they had forgotten the login.
func (m *Module) Logout() error { return failure("C_Logout", m.call("logout", nil)) }

// Remove takes all tokens away. Their sessions are closed. Until [Module.Insert], no slot has a token: slots are not listed
// as slots with a token, functions of the token return CKR_TOKEN_NOT_PRESENT, functions of sessions CKR_DEVICE_REMOVED.
func (m *Module) Remove() error { return failure("C_CloseAllSessions", m.call("remove", nil)) }

// Insert brings the tokens back. Sessions from before are invalid.
func (m *Module) Insert() { m.call("insert", nil) }

// Reinitialize does C_Finalize and C_Initialize on the real module, as other code of the program might: sessions, logins
// and object handles are gone, and their numbers are given out again.
func (m *Module) Reinitialize() error { return failure("reinitialize", m.call("reinitialize", nil)) }

// Finalize does C_Finalize on the real module, as other code of the program might. Calls then return
// CKR_CRYPTOKI_NOT_INITIALIZED until the next C_Initialize.
func (m *Module) Finalize() error { return failure("C_Finalize", m.call("finalize", nil)) }

// LimitSessions makes C_OpenSession return CKR_SESSION_COUNT if n sessions, lost ones included, are open with the token. If
// report is set, the token's information says so. 0 lifts the limit.
func (m *Module) LimitSessions(n int, report bool) { m.call("limit", nil, uint64(n), flag(report)) }

// TokenFlags adds to and removes from the flags of CK_TOKEN_INFO. It replaces what was set before.
func (m *Module) TokenFlags(set, clear uint64) { m.call("token_flags", nil, set, clear) }

// CheckPINAlways makes the token compare the PIN also when the user is logged in, with the one that logged in last: the
// wrong one is CKR_PIN_INCORRECT rather than CKR_USER_ALREADY_LOGGED_IN. Most modules don't look at it.
func (m *Module) CheckPINAlways(on bool) { m.call("check_pin", nil, flag(on)) }

// AnyClass stands for objects of all classes in [Module.SetAttribute] and its like.
const AnyClass = ^uint64(0)

// What a call of the control function override does.
const (
	overrideSet = iota
	overrideHide
	overrideAbsurd
)

// SetAttribute makes C_GetAttributeValue return the value for an attribute of the objects of the class whose CKA_LABEL is
// label, or of all if label is "". Searches still see the real value. Of several changes of one attribute, by whichever
// method, the last holds.
func (m *Module) SetAttribute(label string, class, attribute uint64, value []byte) {
	m.override(overrideSet, label, class, attribute, uint64(len(value)), value)
}

// HideAttribute makes C_GetAttributeValue return CKR_ATTRIBUTE_TYPE_INVALID for the attribute, with the length
// CK_UNAVAILABLE_INFORMATION, and the values of the other attributes of the call.
func (m *Module) HideAttribute(label string, class, attribute uint64) {
	m.override(overrideHide, label, class, attribute, 0, nil)
}

// AbsurdLength makes C_GetAttributeValue say that the attribute has length bytes, and return CKR_BUFFER_TOO_SMALL with that
// length for every buffer.
func (m *Module) AbsurdLength(label string, class, attribute, length uint64) {
	m.override(overrideAbsurd, label, class, attribute, length, nil)
}

// RestoreAttributes undoes SetAttribute, HideAttribute and AbsurdLength.
func (m *Module) RestoreAttributes() { m.call("clear_overrides", nil) }

func (m *Module) override(kind uint64, label string, class, attribute, length uint64, value []byte) {
	m.call("override", append([]byte(label), value...), kind, class, attribute, length, uint64(len(label)))
}

// AddMechanism makes the token list the mechanism, with those flags of CK_MECHANISM_INFO, also if it has it with others. A
// mechanism that the real token lacks is refused when it is used.
func (m *Module) AddMechanism(mechanism, flags uint64) { m.addMechanism(mechanism, flags, 0, 0) }

func (m *Module) addMechanism(mechanism, flags, minKey, maxKey uint64) {
	m.call("mechanism", nil, mechanism, 1, flags, minKey, maxKey)
}

// RemoveMechanism makes the token lack the mechanism: it is not listed, and everything that takes it returns
// CKR_MECHANISM_INVALID.
func (m *Module) RemoveMechanism(mechanism uint64) { m.call("mechanism", nil, mechanism, 0) }
