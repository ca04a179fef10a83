/* SPDX-License-Identifier: Apache-2.0
 *
 * Ownership, said in signatures. One rule for the whole library:
 * on failure nothing has been taken.
 */
#ifndef DLX_OWNERSHIP_H_
#define DLX_OWNERSHIP_H_

#define DLX_GIVE /* the caller owns the result and must release it */
#define DLX_TAKE /* the callee owns the argument once it has succeeded */
#define DLX_KEEP /* the caller keeps the argument; it must outlive the call */
#define DLX_NULL /* may be NULL */

#endif
