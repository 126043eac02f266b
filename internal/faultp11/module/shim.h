/*
 * A PKCS#11 module that forwards to another one and misbehaves when it is told to. Package faultp11 builds it, loads it
 * and tells it what to do; see there for what each fault means.
 *
 * Three locks, always taken in this order:
 *   gate    read-locked by each call while it is in the real module, write-locked by what must not overlap with calls:
 *           C_Initialize, C_Finalize and the loss of the token. Calls that hang or are delayed don't hold it.
 *   busy    one for each virtual key: one request at a time on its socket.
 *   state   guards the small state below; never held while the real module is called or anything is waited for.
 */
#ifndef SHIM_H
#define SHIM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define CK_PTR *
#define NULL_PTR 0
#define CK_DEFINE_FUNCTION(type, name) type name
#define CK_DECLARE_FUNCTION(type, name) type name
#define CK_DECLARE_FUNCTION_POINTER(type, name) type(*name)
#define CK_CALLBACK_FUNCTION(type, name) type(*name)
#pragma GCC visibility push(default)
#include "pkcs11.h"
#pragma GCC visibility pop

/* F_C_Sign and so on number the functions in the order of CK_FUNCTION_LIST. */
enum function {
#define CK_PKCS11_FUNCTION_INFO(name) F_##name,
#include "pkcs11f.h"
#undef CK_PKCS11_FUNCTION_INFO
	F_COUNT
};

/* do_C_Sign and so on do what the shim makes of a call once no rule has stopped it; most just forward. */
#define CK_NEED_ARG_LIST 1
#define CK_PKCS11_FUNCTION_INFO(name) CK_RV do_##name
#include "pkcs11f.h"
#undef CK_PKCS11_FUNCTION_INFO
#undef CK_NEED_ARG_LIST

/* scope says what a function needs, and so what it answers when the token is away. */
enum scope {
	LOCAL,   /* nothing, not even the real module */
	LIBRARY, /* the real module */
	TOKEN,   /* the token: CKR_TOKEN_NOT_PRESENT */
	SESSION, /* a session: CKR_DEVICE_REMOVED */
	WAITING, /* may block for ever in the real module, so it doesn't hold the gate */
	ALONE,   /* holds the gate alone */
};

enum when { BEFORE, AFTER };

struct rule {
	CK_ULONG function; /* F_COUNT: all */
	CK_ULONG when, code, skip, times, delay, hang;
};

struct call {
	enum function function;
	enum scope scope;
	int held;         /* has the gate */
	int ruled;        /* rule applies */
	struct rule rule; /* a copy: the rules may change meanwhile */
};

/* shim.c */
extern pthread_rwlock_t shim_gate;
extern pthread_mutex_t shim_state;
extern CK_FUNCTION_LIST_PTR shim_real; /* written with the gate held alone; NULL until C_Initialize */
extern const char *const shim_names[F_COUNT];
extern atomic_ulong shim_counts[F_COUNT];
extern atomic_ulong shim_delay_all; /* nanoseconds */
extern atomic_ulong shim_overlaps;  /* C_Finalize while other calls were running */
extern atomic_int shim_removed;     /* written with the gate held alone */
extern char *shim_path;             /* of the real module */
int shim_enter(struct call *c, CK_RV *rv); /* 0: the call must not be made, *rv is the answer */
CK_RV shim_leave(struct call *c, CK_RV rv);
void shim_set_rules(const struct rule *rules, CK_ULONG count);
void shim_release(void);
CK_ULONG shim_hanging(void);

/* session.c. The entries are guarded by shim_state. */
struct session {
	struct session *next;
	CK_SESSION_HANDLE handle; /* 0 while it is being opened */
	CK_SLOT_ID slot;
	int lost;                     /* its handle never reached the caller */
	CK_OBJECT_HANDLE *found;      /* virtual objects that a search has yet to return */
	CK_ULONG found_count;
	struct signing *signing;      /* operation with a virtual key, or NULL */
};
extern atomic_ulong shim_user_logins, shim_wrong_pins, shim_flags_set, shim_flags_clear, shim_limit;
extern atomic_int shim_limit_reported, shim_check_pin;
struct session *session_find(CK_SESSION_HANDLE handle); /* needs shim_state */
void session_lost(CK_SESSION_HANDLE handle);
void sessions_forget(void); /* all of them */
CK_ULONG sessions_count(int lost);
CK_RV sessions_close_all(void);
CK_RV sessions_logout(void);

/* attribute.c */
enum override_kind { SET, HIDE, ABSURD };
void override_add(enum override_kind kind, CK_OBJECT_CLASS class, CK_ATTRIBUTE_TYPE type, CK_ULONG length,
                  const char *label, CK_ULONG label_length, const void *value);
void overrides_clear(void);
CK_RV attribute_answer(CK_ATTRIBUTE_PTR attribute, const void *value, CK_ULONG length);

/* mechanism.c */
void mechanism_change(CK_MECHANISM_TYPE mechanism, int add, CK_FLAGS flags, CK_ULONG min, CK_ULONG max);
int mechanism_removed(CK_MECHANISM_PTR mechanism);

/* object.c */
struct object {
	CK_OBJECT_HANDLE number;
	CK_ATTRIBUTE *attributes; /* a sensitive one has the length CK_UNAVAILABLE_INFORMATION */
	CK_ULONG count;
	int private;
	CK_ULONG signature_length; /* 0: no signing key */
	pthread_mutex_t busy;      /* guards fd and the exchange on it */
	int fd;                    /* of the socket on which package faultp11 signs; -1 when it is closed */
};
extern atomic_ulong shim_generation; /* of object handles: changes when the module is initialised */
struct object *object_find(CK_OBJECT_HANDLE handle);
int object_any(void);
CK_ULONG object_add(const CK_BYTE *data, CK_ULONG length, CK_ULONG signature_length);
int object_socket(CK_ULONG number);
void object_detach(CK_ULONG number);
CK_RV object_get(CK_SESSION_HANDLE session, struct object *object, CK_ATTRIBUTE_PTR template, CK_ULONG count);
int logged_in(CK_SESSION_HANDLE session, CK_RV *rv);

/* mldsa.c */
void signing_free(struct signing *signing);

#endif
