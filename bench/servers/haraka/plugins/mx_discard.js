'use strict';
// Haraka in the benchmark: mail for the local domain goes through its own queue, as mail that it forwards does,
// but the delivery is to nowhere.

const outbound = require('./outbound');

// No DNS in the benchmark: every client has this name.
exports.hook_lookup_rdns = (next) => next(OK, 'localhost');

// Writes the message into the queue folder; next, which leads to the 250, is called when the file has its name.
exports.hook_queue = (next, connection) => outbound.send_trans_email(connection.transaction, next);

// In place of a delivery: Haraka's own way to be done with a message, which removes its file.
exports.hook_send_email = (next, hmail) => hmail.discard();
