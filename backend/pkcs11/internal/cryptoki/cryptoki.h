// The part of the PKCS#11 C interface that this package calls directly (PKCS #11 Specification Version 3.1, Sections 3
// and 5). The function list is a version and then pointers in the standard's order, which are taken by number.

#ifndef MANAGEDKEYS_CRYPTOKI_H
#define MANAGEDKEYS_CRYPTOKI_H

#include <stddef.h>

typedef unsigned long ck_ulong;
typedef ck_ulong ck_rv;
typedef unsigned char ck_byte;

#ifdef _WIN32
#pragma pack(push, 1)
#endif

typedef struct { ck_byte major, minor; } ck_version;

enum {
	fn_Initialize = 0, fn_GetAttributeValue = 24,
	fn_EncryptInit = 29, fn_Encrypt = 30, fn_DecryptInit = 33, fn_Decrypt = 34, fn_SignInit = 42, fn_Sign = 43,
	fn_Login = 18,
	fn_count = 68
};
typedef struct { ck_version version; void *fn[fn_count]; } ck_function_list;

typedef struct { ck_ulong mechanism; void *parameter; ck_ulong length; } ck_mechanism;
typedef struct { ck_ulong type; void *value; ck_ulong length; } ck_attribute;
typedef struct { void *create, *destroy, *lock, *unlock; ck_ulong flags; void *reserved; } ck_initialize_args;

typedef struct { ck_ulong hash, mgf, salt; } ck_pss_params;
typedef struct { ck_ulong hash, mgf, source; void *data; ck_ulong length; } ck_oaep_params;
typedef struct { ck_byte *iv; ck_ulong iv_length, iv_bits; ck_byte *aad; ck_ulong aad_length, tag_bits; } ck_gcm_params;
typedef struct { ck_ulong hedge; ck_byte *context; ck_ulong length; } ck_sign_context;

#ifdef _WIN32
#pragma pack(pop)
#endif

enum { // kinds of mechanism parameters
	param_none, param_pss, param_oaep, param_gcm, param_context
};

enum { // operations
	op_sign, op_encrypt, op_decrypt
};

enum { // where an operation failed
	at_init, at_login, at_operation
};

// mk_operation is one operation of a private or secret key.
typedef struct {
	ck_ulong session, key, mechanism;
	ck_ulong hash, mgf, number; // number: length of the PSS salt or of the GCM tag in bits
	ck_ulong out_length;        // in: room; out: bytes written
	ck_ulong cpu, wall;         // if measure: nanoseconds that the calls took
	int kind, op, stage, measure;
} mk_operation;

// The result of mk_load: a function list, or else why there is none.
enum { load_ok, load_refused, load_no_symbol, load_no_list, load_crashed };

int mk_load(const char *path, ck_function_list **list, char *why, size_t room);
ck_rv mk_initialize(ck_function_list *list, int *crashed);
ck_rv mk_run(ck_function_list *list, mk_operation *op, ck_byte *a, ck_ulong a_length, ck_byte *b, ck_ulong b_length,
	const char *pin, ck_ulong pin_length, ck_byte *in, ck_ulong in_length, ck_byte *out);
ck_rv mk_attributes(ck_function_list *list, ck_ulong session, ck_ulong object, ck_ulong *types, ck_ulong n,
	ck_byte *buffer, ck_ulong room, ck_ulong *lengths);

#endif
