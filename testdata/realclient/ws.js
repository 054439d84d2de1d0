// The conversation by npm's ws: node ws.js MODULE URL ENDING
'use strict';

const { report } = require('./conversation.js');
const [, , module_, url, ending] = process.argv;
report(require(module_), url, ending).then((outcome) => console.log(JSON.stringify(outcome)));
