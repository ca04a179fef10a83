/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of capsule.h.
 */
#include "capsule.h"

#include <string.h>

static const char *const name_versioned = "dltensor_versioned";
static const char *const name_versioned_used = "used_dltensor_versioned";
static const char *const name_legacy = "dltensor";
static const char *const name_legacy_used = "used_dltensor";

static int
refuse_name(dlx_state *state, const char *name)
{
    bool used = name != NULL && strncmp(name, "used_dltensor", 13) == 0;
    dlx_raise(
        state->ExchangeError,
        used ? "capsule named '%s' has been consumed already; ask the producer for "
               "a new one"
             : "capsule named '%s' is not a DLPack capsule (expected 'dltensor' or "
               "'dltensor_versioned')",
        name != NULL ? name : "NULL");
    return -1;
}

int
dlx_managed_take(dlx_state *state, DLManagedTensorVersioned *managed,
                 dlx_source *source)
{
    dlx_hold_set(&source->hold, DLX_HOLD_VERSIONED, managed);
    if (managed->version.major != DLPACK_MAJOR_VERSION) { /* nothing else may be read */
        DLPackVersion version = managed->version;
        dlx_source_close(source);
        dlx_raise(
            state->ExchangeError,
            "managed tensor of DLPack version %u.%u: only major version %d can be "
            "read; ask the producer for max_version=(1, 3)",
            (unsigned)version.major, (unsigned)version.minor, DLPACK_MAJOR_VERSION);
        return -1;
    }
    dlx_view_copy(&source->view, &managed->dl_tensor);
    source->flags = managed->flags;
    if (dlx_source_check(state, source) < 0) {
        dlx_source_close(source);
        return -1;
    }
    return 0;
}

/* Take what a capsule named `name` holds; NULL with an error set. Its destructor would
 * only look at the name. */
static void *
consume(PyObject *capsule, const char *name, const char *used)
{
    void *managed = PyCapsule_GetPointer(capsule, name);
    if (managed == NULL || PyCapsule_SetName(capsule, used) < 0) {
        return NULL;
    }
    (void)PyCapsule_SetDestructor(capsule, NULL);
    return managed;
}

static int
claim_versioned(dlx_state *state, PyObject *capsule, dlx_source *source)
{
    DLManagedTensorVersioned *managed =
        consume(capsule, name_versioned, name_versioned_used);
    return managed != NULL ? dlx_managed_take(state, managed, source) : -1;
}

int
dlx_capsule_claim_legacy(dlx_state *state, PyObject *capsule, dlx_source *source)
{
    DLManagedTensor *managed = consume(capsule, name_legacy, name_legacy_used);
    if (managed == NULL) {
        return -1;
    }
    dlx_hold_set(&source->hold, DLX_HOLD_LEGACY, managed);
    dlx_view_copy(&source->view, &managed->dl_tensor);
    source->flags = 0;
    if (dlx_source_check(state, source) < 0) {
        dlx_source_close(source);
        return -1;
    }
    return 0;
}

int
dlx_capsule_claim(dlx_state *state, PyObject *capsule, dlx_source *source)
{
    const char *name = PyCapsule_GetName(capsule);
    source->hold.kind = DLX_HOLD_NOTHING;
    if (name != NULL && strncmp(name, name_legacy, 8) == 0) {
        if (name[8] == '\0') {
            return dlx_capsule_claim_legacy(state, capsule, source);
        }
        if (strcmp(name + 8, name_versioned + 8) == 0) {
            return claim_versioned(state, capsule, source);
        }
    }
    PyErr_Clear();
    return refuse_name(state, name);
}

int
dlx_capsule_legacy_check(dlx_state *state, const dlx_source *source)
{
    if (source->view.dtype.bits < 8 && dlx_source_is_padded(source)) {
        dlx_raise(
            state->ExchangeError,
            "this tensor has one element of %d bits a byte, which an unversioned "
            "capsule cannot say: it would be read as packed; convert it to 8 bits",
            (int)source->view.dtype.bits);
        return -1;
    }
    return 0;
}

/* A capsule that dies unclaimed, perhaps while an exception is on its way. The pointer
 * is that of the block: the managed tensor is its first member. */
static void
destroy_versioned(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, name_versioned)) {
        dlx_block_drop(PyCapsule_GetPointer(capsule, name_versioned));
    }
}

static void
destroy_legacy(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, name_legacy)) {
        dlx_block_drop(PyCapsule_GetPointer(capsule, name_legacy));
    }
}

static void
destroy_foreign(PyObject *capsule)
{
    dlx_hold hold = {.kind = DLX_HOLD_NOTHING};
    if (PyCapsule_IsValid(capsule, name_versioned)) {
        dlx_hold_set(&hold, DLX_HOLD_VERSIONED,
                     PyCapsule_GetPointer(capsule, name_versioned));
    } else if (PyCapsule_IsValid(capsule, name_legacy)) {
        dlx_hold_set(&hold, DLX_HOLD_LEGACY,
                     PyCapsule_GetPointer(capsule, name_legacy));
    }
    dlx_hold_drop(&hold);
}

PyObject *
dlx_capsule_of(void *managed, bool versioned)
{
    return PyCapsule_New(managed, versioned ? name_versioned : name_legacy,
                         destroy_foreign);
}

PyObject *
dlx_capsule_new(dlx_block *block, bool versioned)
{
    return versioned ? PyCapsule_New(block, name_versioned, destroy_versioned)
                     : PyCapsule_New(block, name_legacy, destroy_legacy);
}

PyObject *
dlx_source_export(dlx_state *state, dlx_source *source, bool versioned)
{
    if (!versioned && dlx_source_is_read_only(source)) {
        dlx_raise(state->ExchangeError,
                  "this %s is read-only, which an unversioned capsule cannot say; "
                  "ask with max_version=(1, 0) or higher, or with copy=True",
                  source->framework);
        return NULL;
    }
    if (!versioned && dlx_capsule_legacy_check(state, source) < 0) {
        return NULL;
    }
    dlx_block *block =
        dlx_block_new(state, &source->view, source->flags, &source->hold, versioned);
    if (block == NULL) {
        return NULL;
    }
    PyObject *capsule = dlx_capsule_new(block, versioned);
    if (capsule == NULL) {
        dlx_block_undo(state, block, &source->hold);
    }
    return capsule;
}
