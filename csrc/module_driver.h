/* SPDX-License-Identifier: Apache-2.0
 *
 * Functions of dlexchange._core that speak to the driver layer; module.c lists them.
 */
#ifndef DLX_MODULE_DRIVER_H_
#define DLX_MODULE_DRIVER_H_

#include "state.h"

PyObject *dlx_py_push(PyObject *module, PyObject *args);
PyObject *dlx_py_work_stream(PyObject *module, PyObject *args);
PyObject *dlx_py_record_stream(PyObject *module, PyObject *args);
PyObject *dlx_py_read_stream(PyObject *module, PyObject *args);
PyObject *dlx_py_driver_info(PyObject *module, PyObject *device_type);
PyObject *dlx_py_driver_presence(PyObject *module, PyObject *device_type);
PyObject *dlx_py_driver_load(PyObject *module, PyObject *device_type);
PyObject *dlx_py_driver_reset(PyObject *module, PyObject *unused);
PyObject *dlx_py_copy_to_host(PyObject *module, PyObject *tensor);
PyObject *dlx_py_host_waits(PyObject *module, PyObject *unused);
PyObject *dlx_py_park(PyObject *module, PyObject *tensor);
PyObject *dlx_py_drain(PyObject *module, PyObject *args);
PyObject *dlx_py_stop(PyObject *module, PyObject *unused);

/* Add the driver layer's counters to a dict. 0 or -1 with an error set. */
int dlx_counters_into(PyObject *dict);

#endif
