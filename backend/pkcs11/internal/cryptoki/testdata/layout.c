/* The declarations of cryptoki.h are those of the standard's header, as far as modules see them. */
#define CK_PTR *
#define CK_DEFINE_FUNCTION(type, name) type name
#define CK_DECLARE_FUNCTION(type, name) type name
#define CK_DECLARE_FUNCTION_POINTER(type, name) type(*name)
#define CK_CALLBACK_FUNCTION(type, name) type(*name)
#ifndef NULL_PTR
#define NULL_PTR 0
#endif
#include "pkcs11.h"

#include "../cryptoki.h"

#define SAME(theirs, ours) _Static_assert(sizeof(theirs) == sizeof(ours), "size of " #theirs)
#define FIELD(theirs, a, ours, b)                                                     \
	_Static_assert(offsetof(theirs, a) == offsetof(ours, b), "offset of " #theirs "." #a); \
	_Static_assert(sizeof(((theirs *)0)->a) == sizeof(((ours *)0)->b), "size of " #theirs "." #a)
#define FUNCTION(name) \
	_Static_assert(offsetof(CK_FUNCTION_LIST, C_##name) == offsetof(ck_function_list, fn) + fn_##name * sizeof(void *), "place of C_" #name)

SAME(CK_ULONG, ck_ulong);
SAME(CK_RV, ck_rv);
SAME(CK_BYTE, ck_byte);

SAME(CK_FUNCTION_LIST, ck_function_list);
FUNCTION(Initialize);
FUNCTION(Login);
FUNCTION(GetAttributeValue);
FUNCTION(EncryptInit);
FUNCTION(Encrypt);
FUNCTION(DecryptInit);
FUNCTION(Decrypt);
FUNCTION(SignInit);
FUNCTION(Sign);

SAME(CK_MECHANISM, ck_mechanism);
FIELD(CK_MECHANISM, mechanism, ck_mechanism, mechanism);
FIELD(CK_MECHANISM, pParameter, ck_mechanism, parameter);
FIELD(CK_MECHANISM, ulParameterLen, ck_mechanism, length);

SAME(CK_ATTRIBUTE, ck_attribute);
FIELD(CK_ATTRIBUTE, type, ck_attribute, type);
FIELD(CK_ATTRIBUTE, pValue, ck_attribute, value);
FIELD(CK_ATTRIBUTE, ulValueLen, ck_attribute, length);

SAME(CK_C_INITIALIZE_ARGS, ck_initialize_args);
FIELD(CK_C_INITIALIZE_ARGS, flags, ck_initialize_args, flags);
FIELD(CK_C_INITIALIZE_ARGS, pReserved, ck_initialize_args, reserved);

SAME(CK_RSA_PKCS_PSS_PARAMS, ck_pss_params);
FIELD(CK_RSA_PKCS_PSS_PARAMS, hashAlg, ck_pss_params, hash);
FIELD(CK_RSA_PKCS_PSS_PARAMS, mgf, ck_pss_params, mgf);
FIELD(CK_RSA_PKCS_PSS_PARAMS, sLen, ck_pss_params, salt);

SAME(CK_RSA_PKCS_OAEP_PARAMS, ck_oaep_params);
FIELD(CK_RSA_PKCS_OAEP_PARAMS, hashAlg, ck_oaep_params, hash);
FIELD(CK_RSA_PKCS_OAEP_PARAMS, mgf, ck_oaep_params, mgf);
FIELD(CK_RSA_PKCS_OAEP_PARAMS, source, ck_oaep_params, source);
FIELD(CK_RSA_PKCS_OAEP_PARAMS, pSourceData, ck_oaep_params, data);
FIELD(CK_RSA_PKCS_OAEP_PARAMS, ulSourceDataLen, ck_oaep_params, length);

SAME(CK_GCM_PARAMS, ck_gcm_params);
FIELD(CK_GCM_PARAMS, pIv, ck_gcm_params, iv);
FIELD(CK_GCM_PARAMS, ulIvLen, ck_gcm_params, iv_length);
FIELD(CK_GCM_PARAMS, ulIvBits, ck_gcm_params, iv_bits);
FIELD(CK_GCM_PARAMS, pAAD, ck_gcm_params, aad);
FIELD(CK_GCM_PARAMS, ulAADLen, ck_gcm_params, aad_length);
FIELD(CK_GCM_PARAMS, ulTagBits, ck_gcm_params, tag_bits);
