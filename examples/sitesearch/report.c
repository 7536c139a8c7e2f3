/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The report of a crawl: what the index holds now, what failed, and how fast this run was, as JSON in a file that is
 * replaced as a whole, so that whoever reads it sees the old report or the new one.
 */
#include "report.h"

#include <belay/belay.h>
#include <math.h>

static char *
to_json (const char *source, const StoreTotal *total, const Progress *progress)
{
  g_autoptr (JsonNode) root = json_node_new (JSON_NODE_OBJECT);
  JsonObject *report = json_object_new ();

  json_object_set_string_member (report, "source", source);
  json_object_set_int_member (report, "pages", total->pages);
  json_object_set_int_member (report, "errors", json_array_get_length (total->failed));
  json_object_set_int_member (report, "bytes", total->bytes);
  json_object_set_double_member (report, "seconds", round (progress_get_seconds (progress) * 1000) / 1000);
  json_object_set_double_member (report, "pages_per_second", round (progress_get_rate (progress) * 10) / 10);
  json_object_set_array_member (report, "failed", json_array_ref (total->failed));
  json_node_take_object (root, report);
  return json_to_string (root, TRUE);
}

gboolean
report_write (const char *path, const char *source, const StoreTotal *total, const Progress *progress, GError **error)
{
  g_autofree char *json = to_json (source, total, progress);
  belay_auto (BelayFile) file = belay_await (belay_file_replace (path), error);

  return file != NULL &&
         belay_await_ok (belay_file_write_text (file, json), error) &&
         belay_await_ok (belay_file_write_text (file, "\n"), error) &&
         belay_commit (&file, error);
}
