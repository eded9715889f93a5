// A connection of @stomp/stompjs whose every wait is bounded.

import { createRequire } from 'node:module';

// The packages are in the work directory, not beside this file.
const require = createRequire(`${process.env.STOMP_MODULES}/`);
const { Client, Versions } = require('@stomp/stompjs');

// The client expects what browsers have.
globalThis.WebSocket = require('ws');

export const WAIT_MS = 6_000;

export class Session {
    // Connects as `options` say, see the client's StompConfig, with `versions` to offer.
    static async open({ versions, ...options } = {}) {
        const session = new Session({ stompVersions: new Versions(versions), ...options });
        session.client.activate();
        session.connected = await session.expect('CONNECTED', session.connecting);
        return session;
    }

    constructor(options) {
        this.unasked = new Inbox('a message of no subscription');
        this.client = new Client({
            brokerURL: process.env.STOMP_WS,
            reconnectDelay: 0,
            heartbeatIncoming: 0,
            heartbeatOutgoing: 0,
            ...options,
        });
        // The virtual host: this client leaves it out unless it is told.
        if (process.env.STOMP_VHOST) this.client.connectHeaders = { host: process.env.STOMP_VHOST };
        this.client.onUnhandledMessage = message => this.unasked.put(message);
        this.connecting = new Promise(resolve => (this.client.onConnect = resolve));
        this.error = new Promise(resolve => (this.client.onStompError = resolve));
        this.closed = new Promise(resolve => (this.client.onWebSocketClose = resolve));
        this.receipts = 0;
    }

    // Runs `issue` with headers that ask for a receipt, and waits for it.
    async receipted(what, issue) {
        const receipt = `r-${++this.receipts}`;
        const arrived = new Promise(resolve => this.client.watchForReceipt(receipt, resolve));
        issue({ receipt });
        return this.expect(`the receipt of ${what}`, arrived);
    }

    // Once it returns, the subscription is active. What comes goes into `subscription.inbox`.
    async subscribe(destination, headers = {}, inbox = new Inbox(`a message of ${destination}`)) {
        let subscription;
        const take = message => inbox.put(Object.assign(message, { session: this }));
        await this.receipted(`SUBSCRIBE ${destination}`, receipt => {
            subscription = this.client.subscribe(destination, take, { ...headers, ...receipt });
        });
        return Object.assign(subscription, { inbox });
    }

    unsubscribe(subscription) {
        return this.receipted('UNSUBSCRIBE', receipt => subscription.unsubscribe(receipt));
    }

    send(destination, body, headers = {}) {
        const content = typeof body === 'string' ? { body } : { binaryBody: body };
        return this.receipted(`SEND ${destination}`, receipt => {
            this.client.publish({ destination, headers: { ...headers, ...receipt }, ...content });
        });
    }

    ack(message, headers = {}) {
        return this.receipted('ACK', receipt => message.ack({ ...headers, ...receipt }));
    }

    nack(message, headers = {}) {
        return this.receipted('NACK', receipt => message.nack({ ...headers, ...receipt }));
    }

    // The ERROR frame, and the Close that must follow it.
    async refused() {
        const error = await within('the ERROR', this.error);
        const close = await within('the close after ERROR', this.closed);
        return { headers: error.headers, body: error.body, code: close.code };
    }

    // DISCONNECT and what follows it. Returns its receipt, if one came.
    async end() {
        const receipt = new Promise(resolve => (this.client.onDisconnect = resolve));
        const closed = this.client.deactivate();
        await within('the close after DISCONNECT', closed);
        return Promise.race([receipt, undefined]);
    }

    // Ends the connection without a word.
    async drop() {
        await within('a forced end', this.client.deactivate({ force: true }));
    }

    // Waits for `promise`, unless an ERROR or a close comes first.
    expect(what, promise) {
        const failed = this.error.then(frame => {
            throw new Error(`ERROR instead of ${what}: ${frame.headers.message}`);
        });
        const ended = this.closed.then(({ code, reason }) => {
            throw new Error(`closed with ${code} '${reason}' instead of ${what}`);
        });
        return within(what, Promise.race([promise, failed, ended]));
    }
}

// Messages in the order in which they came.
export class Inbox {
    constructor(what) {
        this.what = what;
        this.messages = [];
        this.waiting = [];
    }

    put(message) {
        const take = this.waiting.shift();
        if (take) take(message);
        else this.messages.push(message);
    }

    next(ms = WAIT_MS) {
        if (this.messages.length) return Promise.resolve(this.messages.shift());
        return within(this.what, new Promise(resolve => this.waiting.push(resolve)), ms);
    }

    async bodies(count) {
        const bodies = [];
        while (bodies.length < count) bodies.push((await this.next()).body);
        return bodies;
    }
}

export async function within(what, promise, ms = WAIT_MS) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`${what} did not come within ${ms} ms`)), ms);
    });
    try {
        return await Promise.race([promise, late]);
    } finally {
        clearTimeout(timer);
    }
}

export const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));

export function same(what, actual, expected) {
    const [found, wanted] = [JSON.stringify(actual), JSON.stringify(expected)];
    if (found !== wanted) throw new Error(`${what}: ${found} instead of ${wanted}`);
}

export function check(what, holds) {
    if (!holds) throw new Error(what);
}
