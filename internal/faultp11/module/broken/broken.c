/* Modules that are of no use, each in its own way. */
#include <stdlib.h>

#define CK_PTR *
#define NULL_PTR 0
#define CK_DEFINE_FUNCTION(type, name) type name
#define CK_DECLARE_FUNCTION(type, name) type name
#define CK_DECLARE_FUNCTION_POINTER(type, name) type(*name)
#define CK_CALLBACK_FUNCTION(type, name) type(*name)
#pragma GCC visibility push(default)
#include "pkcs11.h"
#pragma GCC visibility pop

#if defined(CRASHES) || defined(ABORTS)

static CK_RV initialize(CK_VOID_PTR args)
{
	(void)args;
#ifdef CRASHES
	*(volatile int *)NULL = 1;
#else
	abort();
#endif
	return CKR_OK;
}

static CK_RV unsupported(void) { return CKR_FUNCTION_NOT_SUPPORTED; }

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list)
{
	static CK_FUNCTION_LIST functions = {
		.version = {2, 40},
#define CK_PKCS11_FUNCTION_INFO(name) .name = (CK_##name)(void (*)(void))unsupported,
#include "pkcs11f.h"
#undef CK_PKCS11_FUNCTION_INFO
	};
	functions.C_Initialize = initialize;
	functions.C_GetFunctionList = C_GetFunctionList;
	*list = &functions;
	return CKR_OK;
}

#elif defined(REFUSES)

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list)
{
	(void)list;
	return CKR_GENERAL_ERROR;
}

#elif defined(NO_LIST)

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR list)
{
	*list = NULL;
	return CKR_OK;
}

#endif
