/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Belay: asynchronous resources that cannot leak. The one header to include. */
#pragma once

#define BELAY_INSIDE
#include <belay/belay-macros.h>
#include <belay/belay-error.h>
#include <belay/belay-future.h>
#include <belay/belay-fiber.h>
#include <belay/belay-worker.h>
#include <belay/belay-resource.h>
#include <belay/belay-guard.h>
#include <belay/belay-scope.h>
#include <belay/belay-entry.h>
#include <belay/belay-local.h>
#include <belay/belay-loop.h>
#include <belay/belay-manager.h>
#include <belay/belay-combine.h>
#include <belay/belay-semaphore.h>
#include <belay/belay-lock.h>
#include <belay/belay-rw-lock.h>
#include <belay/belay-condition.h>
#include <belay/belay-channel.h>
#include <belay/belay-queue.h>
#include <belay/belay-pool.h>
#include <belay/belay-file.h>
#include <belay/belay-gio.h>
#include <belay/belay-run.h>
#include <belay/belay-lifespan.h>
#include <belay/belay-leaks.h>
#include <belay/belay-application.h>
#undef BELAY_INSIDE
