/* What dlx_check() says of descriptions, and that dlx_copy_to_host() gathers; a program. */
#include <dlexchange/dlexchange.h>
#include <stdio.h>

static int failures;

static void
expect(const char *what, DLTensor view, int error)
{
    int said = dlx_check(&view);
    if (said != error) {
        printf("%s: %d (%s), expected %d\n", what, said, dlx_error_text(said), error);
        failures++;
    }
}

static DLTensor
plain(int64_t *shape, int64_t *strides)
{
    static float values[6] = {0, 1, 2, 3, 4, 5};
    DLTensor view = {values, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, shape, strides, 0};
    return view;
}

static void
check_shapes(void)
{
    int64_t good[2] = {2, 3}, negative[2] = {-1, 3}, empty[2] = {0, -1};
    int64_t large[2] = {INT64_C(1) << 40, INT64_C(1) << 40};
    int64_t large_but_empty[2] = {INT64_C(1) << 62, 0};
    int64_t steps[2] = {3, 1}, far[2] = {INT64_C(1) << 62, 1}, lowest[2] = {INT64_MIN, 1};
    int64_t sum[2] = {INT64_C(1) << 55, INT64_C(1) << 55};
    DLTensor view = plain(good, steps);
    expect("good", view, DLX_OK);
    expect("negative", plain(negative, NULL), DLX_BAD_SHAPE);
    expect("negative beside empty", plain(empty, NULL), DLX_BAD_SHAPE);
    expect("large", plain(large, NULL), DLX_BAD_SHAPE);
    expect("large but empty", plain(large_but_empty, NULL), DLX_OK);
    expect("far steps", plain(good, far), DLX_BAD_SHAPE);
    expect("lowest step", plain(good, lowest), DLX_BAD_SHAPE);
    expect("steps whose sum is far", plain(good, sum), DLX_BAD_SHAPE);
    view.ndim = -1;
    expect("ndim", view, DLX_BAD_SHAPE);
    view.ndim = 65;
    expect("ndim", view, DLX_BAD_SHAPE);
    view.ndim = 2;
    view.shape = NULL;
    expect("no shape", view, DLX_BAD_SHAPE);
    view.ndim = 0;
    expect("scalar", view, DLX_OK);
    view.data = NULL;
    expect("no data", view, DLX_BAD_DATA);
}

static void
check_dtypes(void)
{
    static const struct {
        DLDataType dtype;
        int error;
    } cases[] = {
        {{kDLInt, 8, 1}, DLX_OK},          {{kDLBfloat, 16, 1}, DLX_OK},
        {{kDLComplex, 128, 1}, DLX_OK},    {{kDLFloat8_e8m0fnu, 8, 1}, DLX_OK},
        {{kDLInt, 24, 1}, DLX_BAD_DTYPE},  {{kDLInt, 128, 1}, DLX_BAD_DTYPE},
        {{kDLFloat, 8, 1}, DLX_BAD_DTYPE}, {{kDLFloat, 32, 4}, DLX_BAD_DTYPE},
        {{77, 32, 1}, DLX_BAD_DTYPE},      {{kDLFloat4_e2m1fn, 4, 1}, DLX_BAD_DTYPE},
    };
    int64_t shape[2] = {2, 3};
    DLTensor view = plain(shape, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        view.dtype = cases[i].dtype;
        expect("dtype", view, cases[i].error);
    }
}

static void
check_copies(void)
{
    int64_t shape[2] = {3, 2}, steps[2] = {-1, 3};
    DLTensor view = plain(shape, steps); /* the transpose, upside down */
    float expected[6] = {2, 5, 1, 4, 0, 3}, got[6];
    view.byte_offset = 2 * sizeof(float);
    if (dlx_copy_to_host(&view, NULL, 0, got) != DLX_OK ||
        memcmp(got, expected, sizeof got) != 0) {
        printf("a strided copy is wrong\n");
        failures++;
    }
    view.device.device_type = kDLVulkan;
    if (dlx_copy_to_host(&view, NULL, 0, got) != DLX_BAD_DEVICE) {
        printf("a device without streams was copied\n");
        failures++;
    }
}

int
main(void)
{
    check_shapes();
    check_dtypes();
    check_copies();
    return failures;
}
