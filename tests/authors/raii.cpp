/* dlx::exported and dlx::imported: every owner is dropped once, whoever holds it last. */
#include <dlexchange/dlexchange.h>
#include <cstdio>
#include <utility>

static int failures, dropped;

static void drop(void *)
{
    dropped++;
}

static void expect(const char *what, int got, int wanted)
{
    if (got != wanted) {
        std::printf("%s: %d, expected %d\n", what, got, wanted);
        failures++;
    }
}

int main()
{
    float values[3] = {1, 2, 3};
    int64_t shape[1] = {3}, wrong[1] = {-3};
    DLTensor view{};
    view.data = values;
    view.device.device_type = kDLCPU;
    view.ndim = 1;
    view.dtype.code = kDLFloat;
    view.dtype.bits = 32;
    view.dtype.lanes = 1;
    view.shape = shape;
    {
        dlx::exported kept(view, 0, nullptr, drop);
        expect("exported", kept.error(), DLX_OK);
        dlx::exported moved(std::move(kept));
        expect("dropped while it lives", dropped, 0);
    }
    expect("an export that nobody took", dropped, 1);
    {
        dlx::exported given(view, DLPACK_FLAG_BITMASK_READ_ONLY, nullptr, drop);
        dlx::imported taken(given.release());
        expect("imported", taken.error(), DLX_OK);
        expect("extent", static_cast<int>(taken->shape[0]), 3);
        expect("read only", taken.is_read_only(), 1);
        dlx::imported moved;
        moved = std::move(taken);
        expect("emptied", taken->data == nullptr, 1);
        expect("the same memory", moved->data == values, 1);
    }
    expect("an import", dropped, 2);
    {
        dlx::exported old(view, 0, nullptr, drop);
        DLManagedTensorVersioned *managed = old.release();
        managed->version.major = 2;
        dlx::imported refused(managed);
        expect("another major version", refused.error(), DLX_BAD_VERSION);
    }
    expect("an import that was refused", dropped, 3);
    view.shape = wrong;
    dlx::exported refused(view, 0, nullptr, drop);
    expect("a wrong shape", refused.error(), DLX_BAD_SHAPE);
    expect("its owner", dropped, 3);
    return failures;
}
