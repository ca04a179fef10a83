/* SPDX-License-Identifier: Apache-2.0
 *
 * dlexchange_cxx.h: RAII over dlexchange.h, for C++11 and later. Included by it; do not
 * include it by itself. Nothing here throws, allocates or needs the GIL, unless a
 * deleter does.
 */
#ifndef DLEXCHANGE_DLEXCHANGE_CXX_H_
#define DLEXCHANGE_DLEXCHANGE_CXX_H_

namespace dlx
{

/* Memory of somebody else's, given back with the object. Move-only.
 *
 *     dlx::imported x(managed);
 *     if (x.error() != DLX_OK) { ... dlx_error_text(x.error()) ... }
 *     use(x->data, x->shape, x->ndim);
 *
 * Owns: the managed tensor, from the constructor on, also where it cannot be read: its
 * deleter has run then. A moved-from object is empty.
 * Orders: nothing, also not in the destructor. Where a device may still use the memory,
 * dlx_push() the stream that used it into the producer's before the object goes; see
 * dlx_release(). */
class imported
{
   public:
    /* An empty one; get() may be given to dlx_py_import() to fill. */
    imported() noexcept : error_(DLX_OK)
    {
        clear();
    }
    explicit imported(struct DLManagedTensorVersioned *managed) noexcept
    {
        clear();
        error_ = dlx_import(managed, &held_);
        if (error_ != DLX_OK && managed->deleter != nullptr) {
            managed->deleter(managed);
        }
    }
    imported(imported &&other) noexcept : held_(other.held_), error_(other.error_)
    {
        other.clear();
    }
    imported &operator=(imported &&other) noexcept
    {
        if (this != &other) {
            dlx_release(&held_);
            held_ = other.held_;
            error_ = other.error_;
            other.clear();
        }
        return *this;
    }
    imported(const imported &) = delete;
    imported &operator=(const imported &) = delete;
    ~imported()
    {
        dlx_release(&held_);
    }

    /* DLX_OK, or why the managed tensor could not be taken. */
    int error() const noexcept
    {
        return error_;
    }
    /* What is held; zeros where it is empty. */
    const DLTensor *operator->() const noexcept
    {
        return &held_.tensor;
    }
    const DLTensor &tensor() const noexcept
    {
        return held_.tensor;
    }
    /* True where the memory must not be written to. */
    bool is_read_only() const noexcept
    {
        return (held_.flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0;
    }
    dlx_imported *get() noexcept
    {
        return &held_;
    }

   private:
    void clear() noexcept
    {
        memset(&held_, 0, sizeof held_);
    }
    dlx_imported held_;
    int error_;
};

/* An export that has not been handed over yet: deleted with the object unless release()
 * has given it to a consumer. Move-only.
 *
 *     dlx::exported x(view, 0, owner, drop);
 *     if (x.error() != DLX_OK) { drop(owner); ... }
 *     consumer_takes(x.release());
 *
 * Owns: the managed tensor, and through it `owner`; on an error `owner` is still the
 * caller's. Orders: nothing. */
class exported
{
   public:
    exported(const DLTensor &view, uint64_t flags, void *owner, dlx_drop drop) noexcept
        : managed_(nullptr), error_(dlx_export(&view, flags, owner, drop, &managed_))
    {
    }
    exported(exported &&other) noexcept
        : managed_(other.release()), error_(other.error_)
    {
    }
    exported &operator=(exported &&other) noexcept
    {
        if (this != &other) {
            end();
            managed_ = other.release();
            error_ = other.error_;
        }
        return *this;
    }
    exported(const exported &) = delete;
    exported &operator=(const exported &) = delete;
    ~exported()
    {
        end();
    }

    /* DLX_OK, or why nothing was made. */
    int error() const noexcept
    {
        return error_;
    }
    /* Give the managed tensor away: from now on its deleter is the taker's to call. */
    struct DLManagedTensorVersioned *release() noexcept
    {
        struct DLManagedTensorVersioned *given = managed_;
        managed_ = nullptr;
        return given;
    }

   private:
    void end() noexcept
    {
        if (managed_ != nullptr) {
            managed_->deleter(managed_);
        }
    }
    struct DLManagedTensorVersioned *managed_;
    int error_;
};

} /* namespace dlx */

#endif /* DLEXCHANGE_DLEXCHANGE_CXX_H_ */
