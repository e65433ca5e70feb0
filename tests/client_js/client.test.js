import assert from "node:assert/strict";
import { mock, suite, test } from "node:test";
import { inspect } from "node:util";

import { client, FakeSocket, latest, opened, page, pass, settled, shuffle, sockets } from "./harness.js";

const refusal = (code, more = {}) => ({ type: "error", code, message: "Words.", fatal: true, reconnect: false, ...more });
const SECRET = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl";

function answering(...answers) {
  return mock.method(globalThis, "fetch", async () => {
    const [status, body, headers = {}] = answers.length > 1 ? answers.shift() : answers[0];
    return new Response(typeof body === "string" ? body : JSON.stringify(body), { status, headers });
  });
}

const headers = (fetched) => Object.fromEntries(fetched.mock.calls[0].arguments[1].headers);

suite("Getting in", () => {
  test("a relative address is the page's, over TLS where the page is", async () => {
    client();
    assert.equal((await latest()).url, "wss://chat.example/ws/chat/lobby/");
    location.protocol = "http:";
    client();
    assert.equal((await latest()).url, "ws://chat.example/ws/chat/lobby/");
  });

  test("a session is the browser's to send, and only the application's subprotocols are offered", async () => {
    client({ protocols: ["chat.v2"] });
    assert.deepEqual((await latest()).protocols, ["chat.v2"]);
  });

  test("a ticket is ordered for the path, anew for every attempt", async () => {
    const fetched = answering([201, { ticket: "first" }], [201, { ticket: "second" }]);
    client({ ticket: "/ws-auth/ticket/" });
    const server = await latest();
    assert.deepEqual(server.protocols, ["channels-secure.v1", "channels-secure.ticket.first"]);
    const [url, request] = fetched.mock.calls[0].arguments;
    assert.equal(url, "/ws-auth/ticket/");
    assert.equal(request.method, "POST");
    assert.equal(String(request.body), "path=%2Fws%2Fchat%2Flobby%2F");
    assert.deepEqual(headers(fetched), { "x-csrftoken": "c5rf" });
    await server.closes(1006);
    await pass(500);
    assert.deepEqual((await latest()).protocols, ["channels-secure.v1", "channels-secure.ticket.second"]);
  });

  test("a ticket is ordered with the token where there is one, and without the CSRF token", async () => {
    const fetched = answering([201, { ticket: "first" }]);
    client({ ticket: "https://api.example/ws-auth/ticket/", token: async () => SECRET });
    await latest();
    assert.deepEqual(headers(fetched), { authorization: `Bearer ${SECRET}` });
  });

  test("the CSRF token may come from elsewhere", async () => {
    const fetched = answering([201, { ticket: "first" }]);
    client({ ticket: "/ws-auth/ticket/", csrf: () => "from the form" });
    await latest();
    assert.deepEqual(headers(fetched), { "x-csrftoken": "from the form" });
  });

  test("a function may fetch the ticket, and say that nobody is logged in", async () => {
    const tickets = ["mine", null];
    const socket = client({ ticket: () => tickets.shift() });
    const server = await latest();
    assert.deepEqual(server.protocols, ["channels-secure.v1", "channels-secure.ticket.mine"]);
    await server.closes(1006);
    await pass(500);
    assert.equal(socket.state, "denied");
    assert.equal(socket.heard.denied[0].code, "unauthenticated");
    assert.equal(sockets(), 1);
  });

  test("a token goes into the subprotocol beside the application's, asked for anew for every attempt", async () => {
    const token = mock.fn(async () => SECRET);
    client({ token, protocols: ["chat.v2"] });
    const server = await latest();
    assert.deepEqual(server.protocols, ["chat.v2", "channels-secure.v1", `channels-secure.bearer.${SECRET}`]);
    await server.closes(1006);
    await pass(500);
    await latest();
    assert.deepEqual(token.mock.calls.map((call) => call.arguments), [[{ refresh: false }], [{ refresh: false }]]);
  });

  test("who has no token is told to log in, without a connection", async () => {
    const socket = client({ token: () => null });
    await settled();
    assert.equal(socket.state, "denied");
    assert.equal(socket.heard.denied[0].code, "unauthenticated");
    assert.equal(sockets(), 0);
  });

  test("a token that cannot be fetched is tried again, and the cause can be seen", async () => {
    const cause = new TypeError("Failed to fetch");
    const token = mock.fn(async () => SECRET);
    token.mock.mockImplementationOnce(async () => { throw cause; });
    const socket = client({ token });
    await settled();
    assert.equal(socket.state, "waiting");
    assert.equal(socket.heard.error[0].code, "no_credentials");
    assert.equal(socket.heard.error[0].cause, cause);
    assert.deepEqual(socket.heard.denied, []);
    await pass(500);
    assert.equal(sockets(), 1);
  });

  test("a refusal of the ticket endpoint is the connection's", async () => {
    answering([403, refusal("blocked")]);
    const socket = client({ ticket: "/ws-auth/ticket/" });
    await settled();
    assert.equal(socket.state, "denied");
    assert.equal(socket.heard.denied[0].code, "blocked");
    assert.equal(socket.heard.denied[0].message, "Words.");
  });

  test("a ticket endpoint that asks to wait is asked again afterwards", async () => {
    const fetched = answering([429, refusal("rate_limited", { reconnect: true, retry_after: 7 })], [201, { ticket: "t" }]);
    const socket = client({ ticket: "/ws-auth/ticket/" });
    await settled();
    assert.equal(socket.state, "waiting");
    await pass(6_999);
    assert.equal(fetched.mock.callCount(), 1);
    await pass(501);
    assert.equal(fetched.mock.callCount(), 2);
    assert.equal(sockets(), 1);
  });

  for (const [status, state] of [[403, "denied"], [404, "denied"], [429, "waiting"], [502, "waiting"]]) {
    test(`a page with status ${status} instead of a ticket leaves the client ${state}`, async () => {
      answering([status, "<h1>A page</h1>"]);
      const socket = client({ ticket: "/ws-auth/ticket/" });
      await settled();
      assert.equal(socket.state, state);
      assert.equal(socket.heard.denied[0].code, `http_${status}`);
    });
  }

  test("an attempt that gets nowhere is given up after ten seconds", async () => {
    const socket = client({ token: () => new Promise(() => {}) });
    await pass(10_000);
    assert.equal(socket.state, "waiting");
    const handshake = client();
    await latest();
    await pass(10_000);
    assert.equal(handshake.state, "waiting");
    assert.equal(FakeSocket.all[0].closedWith, 1000);
  });

  test("a token that comes after its attempt was given up is not used", async () => {
    let give;
    const socket = client({ token: () => new Promise((resolve) => { give = resolve; }) });
    await settled();
    socket.close();
    give(SECRET);
    await settled();
    assert.equal(sockets(), 0);
    assert.equal(socket.state, "closed");
  });

  test("a token whose fetching fails after its attempt was given up changes nothing", async () => {
    const fails = [];
    const socket = client({ token: () => new Promise((_, reject) => fails.push(reject)) });
    await pass(10_000);
    await pass(500);
    assert.equal(socket.state, "connecting");
    fails[0](new TypeError("Failed to fetch"));
    await settled();
    assert.equal(socket.state, "connecting");
    assert.deepEqual(socket.heard.error, []);
  });

  test("a ticket that is being fetched is given up with the connection", async () => {
    const fetched = mock.method(globalThis, "fetch", () => new Promise(() => {}));
    const socket = client({ ticket: "/ws-auth/ticket/" });
    await settled();
    socket.close();
    assert.equal(fetched.mock.calls[0].arguments[1].signal.aborted, true);
  });
});

suite("Being let in", () => {
  test("hello lets in and says what the server says of the connection", async () => {
    const hello = { type: "hello", connection_id: "c0ffee", max_message_size: 20 };
    const socket = client();
    const server = await latest();
    await server.opens();
    assert.equal(socket.state, "connecting");
    await server.says(hello);
    assert.equal(socket.state, "open");
    assert.deepEqual(socket.heard.open, [hello]);
    assert.deepEqual(socket.heard.message, []);
  });

  test("without a hello it is the answer to the first ping that lets in", async () => {
    const socket = client();
    const server = await latest();
    await server.opens();
    assert.deepEqual(server.sent, ['{"type":"ping"}']);
    await server.says({ type: "pong" });
    assert.deepEqual(socket.heard.open, [null]);
    assert.deepEqual(socket.heard.message, []);
  });

  test("a message lets in, too, and comes after open", async () => {
    const socket = client();
    const order = [];
    socket.on("open", () => order.push("open"));
    socket.on("message", ({ type }) => order.push(type));
    const server = await latest();
    await server.opens();
    await server.says({ type: "chat.said", text: "hello" });
    assert.deepEqual(order, ["open", "chat.said"]);
  });

  test("a refused page sees its socket open and is not let in", async () => {
    const socket = client();
    const server = await latest();
    await server.opens();
    await server.says(refusal("permission_denied"));
    await server.closes(4403, "permission_denied");
    assert.deepEqual(socket.heard.open, []);
    assert.deepEqual(socket.heard.state.map(({ state }) => state), ["denied"]);
    assert.equal(socket.heard.denied[0].code, "permission_denied");
  });

  test("without heartbeats nothing is sent unasked, and the handshake lets in", async () => {
    const socket = client({ heartbeat: 0 });
    const server = await latest();
    await server.opens();
    assert.equal(socket.state, "open");
    await pass(3_600_000);
    assert.equal(socket.state, "open");
    assert.deepEqual(server.sent, []);
  });

  test("who closes while being told is not connected again", async () => {
    const socket = client();
    socket.on("open", () => socket.close());
    const server = await latest();
    await server.opens();
    await server.says({ type: "ping" });
    assert.equal(socket.state, "closed");
    await pass(60_000);
    assert.equal(sockets(), 1);
  });
});

suite("Staying", () => {
  test("a heartbeat of the server is answered", async () => {
    const [, server] = await opened();
    await server.says({ type: "ping" });
    assert.deepEqual(server.messages, [{ type: "pong" }]);
  });

  test("a silent link is tested, and one that answers stays", async () => {
    const [socket, server] = await opened();
    await pass(24_999);
    assert.deepEqual(server.messages, []);
    await pass(1);
    assert.deepEqual(server.messages, [{ type: "ping" }]);
    await pass(9_999);
    await server.says({ type: "pong" });
    await pass(24_999);
    assert.equal(socket.state, "open");
    assert.equal(server.messages.length, 1);
  });

  test("whatever is heard shows that the link lives", async () => {
    const [, server] = await opened();
    for (let turn = 0; turn < 10; turn += 1) {
      await pass(20_000);
      await server.says({ type: "chat.said" });
    }
    assert.deepEqual(server.messages, []);
  });

  test("a dead link is noticed and replaced, and what it says later is nobody's", async () => {
    const [socket, server] = await opened();
    await pass(25_000);
    await pass(10_000);
    assert.equal(socket.state, "waiting");
    assert.deepEqual(socket.heard.denied, []);
    await server.says({ type: "chat.said" });
    await server.closes(4401);
    assert.equal(socket.state, "waiting");
    assert.deepEqual(socket.heard.message, []);
    await pass(500);
    await (await latest()).lets_in();
    assert.equal(socket.state, "open");
  });

  test("a refusal whose close never comes is a refusal all the same", async () => {
    const [socket, server] = await opened();
    await server.says(refusal("disconnected"));
    await pass(25_000);
    await pass(10_000);
    assert.equal(socket.state, "denied");
    assert.equal(socket.heard.denied[0].code, "disconnected");
  });

  test("what is no JSON is reported and survived", async () => {
    const [socket, server] = await opened();
    await server.says("{");
    await server.says("null");
    assert.deepEqual(socket.heard.error.map(({ code }) => code), ["bad_frame"]);
    assert.deepEqual(socket.heard.message, [null]);
    assert.equal(socket.state, "open");
  });

  test("a refused message is an error, and the connection stays", async () => {
    const [socket, server] = await opened();
    const frame = refusal("rate_limited", { fatal: false, retry_after: 2, ref: 7 });
    await server.says(frame);
    assert.deepEqual(socket.heard.error, [frame]);
    assert.equal(socket.state, "open");
  });
});

suite("Tokens on an open socket", () => {
  const fresh = async (left = 60) => {
    const token = mock.fn(async ({ refresh }) => refresh ? "newer" : SECRET);
    const [socket, server] = await opened({ token });
    await server.says({ type: "token_expiring", expires_in: left });
    return { token, socket, server };
  };

  test("a token is replaced before it expires", async () => {
    const { token, socket, server } = await fresh();
    await pass(9_999);
    assert.deepEqual(server.messages, []);
    await pass(1);
    const [{ id, ...sent }] = server.messages;
    assert.deepEqual(sent, { type: "refresh_token", token: "newer" });
    assert.deepEqual(token.mock.calls.at(-1).arguments, [{ refresh: true }]);
    await server.says({ type: "token_refreshed", expires_in: 300, ref: id });
    assert.deepEqual([...socket.heard.message, ...socket.heard.error], []);
    await pass(9_000);
    assert.equal(server.messages.length, 1);
  });

  test("whoever came with a ticket may have newer tokens for the open socket", async () => {
    const getToken = mock.fn(async () => "newer");
    const [, server] = await opened({ ticket: async () => SECRET, getToken });
    assert.equal(getToken.mock.callCount(), 0);
    await server.says({ type: "token_expiring", expires_in: 60 });
    await pass(10_000);
    const [{ id, ...sent }] = server.messages;
    assert.deepEqual(sent, { type: "refresh_token", token: "newer" });
  });

  test("one that is soon over is replaced in half of the time that is left", async () => {
    const { server } = await fresh(4);
    await pass(2_000);
    assert.equal(server.messages[0].type, "refresh_token");
  });

  test("a server that is not able to at the moment is asked again when it says", async () => {
    const { socket, server } = await fresh();
    await pass(10_000);
    await server.says(refusal("unavailable", { fatal: false, retry_after: 5, ref: server.messages[0].id }));
    assert.equal(socket.heard.error[0].code, "not_refreshed");
    assert.equal(socket.heard.error[0].cause.code, "unavailable");
    await pass(5_000);
    assert.equal(server.messages.length, 2);
  });

  test("a token that was refused is not sent again and again", async () => {
    const { socket, server } = await fresh();
    await pass(10_000);
    await server.says(refusal("invalid_credentials", { fatal: false, ref: server.messages[0].id }));
    assert.equal(socket.heard.error[0].cause.code, "invalid_credentials");
    for (let turn = 0; turn < 6; turn += 1) await pass(9_000);
    assert.equal(server.messages.filter(({ type }) => type === "refresh_token").length, 1);
  });

  test("a token that could not be fetched is fetched again", async () => {
    const { token, socket, server } = await fresh();
    token.mock.mockImplementationOnce(async () => { throw new TypeError("Failed to fetch"); });
    await pass(10_000);
    assert.equal(socket.heard.error[0].code, "not_refreshed");
    await pass(10_000);
    assert.equal(server.messages[0].type, "refresh_token");
  });

  test("a newer token goes ahead of what waits, and never to another connection", async () => {
    const { socket, server } = await fresh();
    server.bufferedAmount = 1 << 20;
    for (let number = 0; number < 100; number += 1) socket.send({ type: "chat.say" });
    await pass(10_000);
    assert.deepEqual(server.messages.map(({ type }) => type), ["refresh_token"]);
    await server.closes(1006);
    await pass(500);
    const next = await latest();
    await next.lets_in();
    for (let turn = 0; turn < 100; turn += 1) await pass(60);
    assert.deepEqual(new Set(next.messages.map(({ type }) => type)), new Set(["chat.say"]));
  });

  test("nothing is sent where there is no newer token", async () => {
    const { token, socket, server } = await fresh();
    token.mock.mockImplementationOnce(async () => undefined);
    await pass(10_000);
    assert.equal(socket.heard.error[0].cause.code, "unauthenticated");
    assert.deepEqual(server.messages, []);
  });

  test("a token that comes for a connection that has ended is not sent on the next", async () => {
    let give;
    const token = ({ refresh }) => refresh ? new Promise((resolve) => { give = resolve; }) : SECRET;
    const [, server] = await opened({ token });
    await server.says({ type: "token_expiring", expires_in: 60 });
    await pass(10_000);
    await server.closes(1006);
    await pass(500);
    const next = await latest();
    await next.lets_in();
    give("late");
    await settled();
    assert.deepEqual(next.messages, []);
  });

  test("who has no tokens is told that the connection will end", async () => {
    const [socket, server] = await opened();
    await server.says({ type: "token_expiring", expires_in: 60 });
    assert.deepEqual(socket.heard.message, [{ type: "token_expiring", expires_in: 60 }]);
  });

  test("whoever brings expired tokens only is not let try for ever", async () => {
    const socket = client({ token: () => SECRET });
    const expired = refusal("credentials_expired", { reconnect: true });
    for (let turn = 0; turn < 2; turn += 1) {
      const server = await latest();
      await server.opens();
      await server.says(expired);
      await server.closes(4419);
      await pass(1_000);
    }
    assert.equal(socket.state, "denied");
    assert.deepEqual(socket.heard.denied.map(({ reconnect }) => reconnect), [true, false]);
    assert.equal(sockets(), 2);
  });

  test("a token that was good in between, or ended on the open socket, does not count as a second expired one", async () => {
    const socket = client({ token: () => SECRET });
    const expires = async () => {
      const server = await latest();
      await server.says(refusal("credentials_expired", { reconnect: true }));
      await server.closes(4419);
      await pass(20_000);
    };
    for (let turn = 0; turn < 2; turn += 1) {
      await (await latest()).opens();
      await expires();
      await (await latest()).lets_in();
      await expires();
    }
    assert.equal(socket.state, "connecting");
    assert.ok(socket.heard.denied.every(({ reconnect }) => reconnect));
  });

  test("a refresh that a lost connection interrupts is not an error", async () => {
    const { socket, server } = await fresh();
    await pass(10_000);
    await server.closes(1006);
    assert.deepEqual(socket.heard.error, []);
  });

  test("a connection that lasts until its token ends comes back each time", async () => {
    const [socket] = await opened({ token: () => SECRET });
    for (let turn = 0; turn < 5; turn += 1) {
      const server = await latest();
      await server.says(refusal("credentials_expired", { reconnect: true }));
      await server.closes(4419);
      await pass(20_000);
      await (await latest()).lets_in();
      assert.equal(socket.state, "open");
    }
  });
});

suite("Coming back", () => {
  const delays = (socket) => socket.heard.state.filter(({ state }) => state === "waiting").map(({ delay }) => delay);

  test("the back-off doubles from half a second to twenty", async () => {
    const socket = client();
    for (let turn = 0; turn < 8; turn += 1) {
      await (await latest()).closes(1006);
      await pass(20_000);
    }
    assert.deepEqual(delays(socket), [500, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000]);
  });

  test("the whole delay is chance, so that a thousand clients do not come back in one moment", async () => {
    Math.random.mock.mockImplementation(() => 0.25);
    const socket = client({ minDelay: 1_000 });
    await (await latest()).closes(1006);
    assert.deepEqual(delays(socket), [250]);
    Math.random.mock.mockImplementation(() => 0);
    await pass(250);
    await (await latest()).closes(1006);
    assert.deepEqual(delays(socket), [250, 0]);
  });

  test("only a connection that has lasted begins the back-off anew", async () => {
    const socket = client();
    for (const lasted of [0, 4_999, 5_000]) {
      const server = await latest();
      await server.lets_in();
      await pass(lasted);
      await server.closes(1006);
      await pass(20_000);
    }
    assert.deepEqual(delays(socket), [500, 1_000, 500]);
  });

  test("the server says after how long to come back, and chance is added", async () => {
    const [socket, server] = await opened();
    await server.says(refusal("server_restart", { reconnect: true, retry_after: 30 }));
    await server.closes(4505);
    assert.deepEqual(delays(socket), [30_500]);
    assert.equal(socket.heard.denied[0].reconnect, true);
    await pass(30_499);
    assert.equal(sockets(), 1);
    await pass(1);
    assert.equal(sockets(), 2);
  });

  const GONE = {
    ...Object.fromEntries([1001, 1012, 1013, 4505].map((code) => [`a close with ${code}`, (server) => server.closes(code)])),
    "a goodbye without a time": async (server) => {
      await server.says(refusal("server_restart", { reconnect: true }));
      await server.closes(1006);
    },
  };
  for (const [what, goes] of Object.entries(GONE)) {
    test(`${what} is everybody's, who spread over ten seconds until the server is back`, async () => {
      const [socket, server] = await opened();
      await goes(server);
      for (let turn = 0; turn < 6; turn += 1) {
        await pass(20_000);
        await (await latest()).closes(1006);
      }
      assert.deepEqual(delays(socket), [10_000, 10_000, 10_000, 10_000, 10_000, 16_000, 20_000]);
      await pass(20_000);
      await (await latest()).lets_in();
      await pass(5_000);
      await (await latest()).closes(1006);
      assert.equal(delays(socket).at(-1), 500);
    });
  }

  test("a thousand clients of a server that goes are spread evenly", async () => {
    // By the numbers chosen, so on any machine: of 1,000 in 100 slots of 0.1 s, ten in each are to be expected.
    Math.random.mock.restore();
    const herd = await Promise.all(Array.from({ length: 1_000 }, () => opened()));
    await Promise.all(FakeSocket.all.map((server) => server.closes(1012)));
    const slots = new Array(100).fill(0);
    for (const [socket] of herd) slots[Math.floor(delays(socket)[0] / 100)] += 1;
    assert.ok(Math.max(...slots) <= 30, String(slots));
  });

  test("nobody spreads wider than the longest delay that was asked for", async () => {
    const [socket, server] = await opened({ maxDelay: 3_000 });
    await server.closes(1012);
    assert.deepEqual(delays(socket), [3_000]);
  });

  test("a wait longer than timers last does not end at once", async () => {
    const [, server] = await opened();
    await server.says(refusal("blocked", { reconnect: true, retry_after: 90 * 86_400 }));
    await server.closes(4423);
    await pass(86_400_000);
    assert.equal(sockets(), 1);
  });

  for (const none of ["soon", -60, null]) {
    test(`a time that is none, as ${none}, does not become an endless hurry`, async () => {
      const [socket, server] = await opened();
      await server.says(refusal("unavailable", { reconnect: true, retry_after: none }));
      await server.closes(4503);
      assert.deepEqual(delays(socket), [500]);
    });
  }

  test("what is not to be tried again is not, until somebody asks", async () => {
    const [socket, server] = await opened();
    await server.says(refusal("credentials_revoked"));
    await server.closes(4401);
    await pass(3_600_000);
    await page({ hidden: true });
    await page({ hidden: false });
    assert.equal(sockets(), 1);
    assert.equal(socket.state, "denied");
    socket.connect();
    await (await latest()).lets_in();
    assert.equal(socket.state, "open");
    assert.equal(sockets(), 2);
  });

  const TERMINAL = [1008, 3000, 4000, 4400, 4401, 4403, 4404, 4409, 4413, 4415, 4423, 4440];
  const PASSING = [1001, 1005, 1006, 1011, 1012, 1013];
  const LATER = [4408, 4419, 4429, 4500, 4503, 4504, 4505];
  for (const [codes, state, told] of [[TERMINAL, "denied", 1], [PASSING, "waiting", 0], [LATER, "waiting", 1]]) {
    for (const code of codes) {
      test(`a close with ${code} whose error frame was lost leaves the client ${state}`, async () => {
        const [socket, server] = await opened();
        await server.closes(code);
        assert.equal(socket.state, state);
        assert.deepEqual(socket.heard.denied.map((each) => each.code), told ? [`close_${code}`] : []);
      });
    }
  }

  test("the reason that came with a close is its code", async () => {
    const [socket, server] = await opened();
    await server.closes(4403, "permission_denied");
    assert.equal(socket.heard.denied[0].code, "permission_denied");
  });

  test("the error frame counts more than the code, which a project may have changed", async () => {
    const [socket, server] = await opened();
    await server.says(refusal("session_ended", { reconnect: true }));
    await server.closes(1008);
    assert.equal(socket.state, "waiting");
    const [other, second] = await opened();
    await second.says(refusal("disconnected"));
    await second.closes(1000);
    assert.equal(other.state, "denied");
  });

  test("a conversation that the server ends is over", async () => {
    const [socket, server] = await opened();
    await server.closes(1000);
    assert.equal(socket.state, "closed");
    await pass(60_000);
    assert.equal(sockets(), 1);
  });

  test("one may come back at once instead of waiting", async () => {
    const [socket, server] = await opened();
    await server.closes(1006);
    socket.connect();
    socket.connect();
    await latest();
    assert.equal(sockets(), 2);
    await pass(500);
    assert.equal(sockets(), 2);
  });

  test("who closes does not come back, and the server is told", async () => {
    const [socket, server] = await opened();
    socket.close();
    socket.close();
    assert.equal(server.closedWith, 1000);
    assert.deepEqual(socket.heard.state.map(({ state }) => state), ["open", "closed"]);
    await page({ online: false });
    await page({ online: true });
    await pass(3_600_000);
    assert.equal(sockets(), 1);
  });

  test("who asks to connect while connected changes nothing", async () => {
    const [socket, server] = await opened();
    socket.connect();
    await settled();
    assert.equal(server.closedWith, undefined);
    assert.equal(sockets(), 1);
  });

  test("who asks to connect begins the back-off anew", async () => {
    const socket = client();
    for (let turn = 0; turn < 4; turn += 1) {
      await (await latest()).closes(1006);
      await pass(20_000);
    }
    socket.connect();
    await (await latest()).closes(1006);
    socket.connect();
    await (await latest()).closes(1006);
    assert.deepEqual(delays(socket), [500, 1_000, 2_000, 4_000, 8_000, 500]);
  });
});

suite("Pausing", () => {
  const AWAY = [["offline", { online: false }, { online: true }], ["hidden", { hidden: true }, { hidden: false }]];
  for (const [what, away, back] of AWAY) {
    test(`a page that is ${what} waits until it no longer is`, async () => {
      const [socket, server] = await opened();
      await page(away);
      await server.says({ type: "pong" });
      assert.equal(socket.state, "open");
      await server.closes(1006);
      assert.equal(socket.state, "paused");
      await pass(3_600_000);
      assert.equal(sockets(), 1);
      await page(back);
      assert.equal(socket.state, "waiting");
      await pass(500);
      assert.equal(sockets(), 2);
    });

    test(`a page that goes ${what} while it waits pauses at once`, async () => {
      const [socket, server] = await opened();
      await server.closes(1006);
      await page(away);
      assert.equal(socket.state, "paused");
      await pass(60_000);
      assert.equal(sockets(), 1);
    });
  }

  test("what the server asked for is waited for after a pause, too", async () => {
    const [socket, server] = await opened();
    await server.says(refusal("rate_limited", { reconnect: true, retry_after: 60 }));
    await server.closes(4429);
    await page({ hidden: true });
    await pass(20_000);
    await page({ hidden: false });
    assert.equal(socket.heard.state.at(-1).delay, 40_500);
    await pass(39_999);
    assert.equal(sockets(), 1);
    await pass(501);
    assert.equal(sockets(), 2);
  });

  test("pages that are looked at again while a server restarts come no sooner", async () => {
    const [socket, server] = await opened();
    await server.closes(1012);
    await page({ hidden: true });
    await page({ hidden: false });
    assert.equal(socket.heard.state.at(-1).delay, 10_000);
  });

  test("without heartbeats no link is tested, and none given up for an answer that nobody sends", async () => {
    const socket = client({ heartbeat: 0 });
    const server = await latest();
    await server.opens();
    await page({ hidden: true });
    await page({ hidden: false });
    await pass(60_000);
    assert.deepEqual([socket.state, server.sent], ["open", []]);
  });

  test("a page may stay connected while nobody looks at it", async () => {
    const [socket, server] = await opened({ pauseHidden: false });
    await page({ hidden: true });
    await server.closes(1006);
    assert.equal(socket.state, "waiting");
    await pass(500);
    assert.equal(sockets(), 2);
  });

  test("a link is tested when the page is back, and replaced when it has died meanwhile", async () => {
    const [socket, server] = await opened();
    await page({ hidden: true });
    await pass(1_000);
    await page({ hidden: false });
    assert.deepEqual(server.messages.at(-1), { type: "ping" });
    await pass(10_000);
    assert.equal(socket.state, "waiting");
  });

  test("what the page asks for itself is tried, offline or not", async () => {
    navigator.onLine = false;
    client();
    await latest();
    assert.equal(sockets(), 1);
  });
});

suite("Sending", () => {
  const said = (number) => ({ type: "chat.say", text: String(number) });

  test("an open connection is written to at once", async () => {
    const [socket, server] = await opened();
    socket.send(said(1));
    assert.deepEqual(server.messages, [said(1)]);
  });

  test("what is said before there is a connection is sent in order, no faster than the server allows", async () => {
    const socket = client();
    for (const number of [1, 2, 3]) socket.send(said(number));
    assert.equal(socket.queued, 3);
    const server = await latest();
    await server.lets_in();
    socket.send(said(4));
    assert.deepEqual(server.messages, [said(1)]);
    await pass(59);
    assert.equal(server.messages.length, 1);
    await pass(1);
    await pass(60);
    await pass(60);
    assert.deepEqual(server.messages, [1, 2, 3, 4].map(said));
    assert.equal(socket.queued, 0);
    socket.send(said(5));
    await pass(60);
    assert.equal(server.messages.length, 5);
  });

  test("the queue is bounded, and says so", async () => {
    const socket = client({ maxQueue: 2 });
    socket.send(said(1));
    socket.send(said(2));
    assert.throws(() => socket.send(said(3)), { code: "queue_full", message: "Too many messages wait." });
    await assert.rejects(socket.request(said(3)), { code: "queue_full" });
    assert.equal(socket.queued, 2);
  });

  test("a hundred messages may wait, unless one says otherwise", async () => {
    const socket = client();
    for (let number = 0; number < 100; number += 1) socket.send(said(number));
    assert.throws(() => socket.send(said(100)), { code: "queue_full" });
  });

  test("a link that takes nothing fills the queue and not the memory", async () => {
    const [socket, server] = await opened({ maxQueue: 2 });
    server.bufferedAmount = 1 << 20;
    socket.send(said(1));
    socket.send(said(2));
    assert.throws(() => socket.send(said(3)), { code: "queue_full" });
    await pass(60);
    assert.deepEqual(server.messages, []);
    server.bufferedAmount = 0;
    await pass(60);
    await pass(60);
    assert.deepEqual(server.messages, [said(1), said(2)]);
  });

  test("what is queued survives a lost connection", async () => {
    const [socket, server] = await opened();
    await server.closes(1006);
    socket.send(said(1));
    await pass(500);
    const next = await latest();
    await next.lets_in();
    assert.deepEqual(next.messages, [said(1)]);
  });

  test("there is no queue for a connection that will not come back", async () => {
    const socket = client();
    socket.send(said(1));
    const server = await latest();
    await server.opens();
    await server.says(refusal("blocked"));
    await server.closes(4423);
    assert.equal(socket.queued, 0);
    assert.throws(() => socket.send(said(2)), { name: "Error", code: "closed" });
    socket.connect();
    await (await latest()).lets_in();
    assert.deepEqual((await latest()).messages, []);
  });

  test("a message that the server would close for is not sent", async () => {
    const [socket, server] = await opened();
    const longest = "é".repeat((1_000 - JSON.stringify(said("")).length) / 2);
    assert.throws(() => socket.send(said(`${longest}é`)), { code: "message_too_big" });
    socket.send(said(longest));
    assert.equal(server.messages.length, 1);
  });

  test("the longest message is the server's default as long as it does not say another", async () => {
    const [socket, server] = await opened();
    await server.closes(1006);
    const other = client();
    assert.throws(() => other.send({ type: "x".repeat(65_536) }), { code: "message_too_big" });
    assert.throws(() => socket.send({ type: "x".repeat(1_000) }), { code: "message_too_big" });
    other.send({ type: "x".repeat(65_000) });
  });

  test("the limit can be told where the server says none", async () => {
    const socket = client({ maxMessageSize: 50 });
    assert.throws(() => socket.send(said("x".repeat(50))), { code: "message_too_big" });
  });
});

suite("Asking", () => {
  const question = { type: "room.who" };

  test("the frame with the question's id is its answer", async () => {
    const [socket, server] = await opened();
    const answer = socket.request(question);
    const [{ id, ...sent }] = server.messages;
    assert.deepEqual(sent, question);
    assert.ok(typeof id === "string" && id.length <= 64);
    await server.says({ type: "room.here", ref: "another" });
    await server.says({ type: "room.here", ref: id, users: [1] });
    assert.deepEqual(await answer, { type: "room.here", ref: id, users: [1] });
    assert.deepEqual(socket.heard.message, [{ type: "room.here", ref: "another" }]);
  });

  test("a refusal is the question's alone", async () => {
    const [socket, server] = await opened();
    const answer = assert.rejects(socket.request(question), {
      code: "invalid_message", message: "Words.", errors: [{ path: "text", message: "Too long." }], retry_after: 3,
    });
    const [{ id: ref }] = server.messages;
    const errors = [{ path: "text", message: "Too long." }];
    await server.says(refusal("invalid_message", { fatal: false, ref, errors, retry_after: 3 }));
    await answer;
    assert.deepEqual(socket.heard.error, []);
  });

  test("no answer is an error after a while, and a later one a message", async () => {
    const [socket, server] = await opened();
    shuffle();
    const short = assert.rejects(socket.request(question, { timeout: 500 }), { code: "timeout" });
    const long = assert.rejects(socket.request(question), { code: "timeout" });
    await pass(500);
    await short;
    await pass(9_500);
    await long;
    await server.says({ type: "room.here", ref: server.messages[0].id });
    assert.equal(socket.heard.message.length, 1);
  });

  test("a question that waited too long is not asked any more", async () => {
    const socket = client();
    const answer = assert.rejects(socket.request(question, { timeout: 500 }), { code: "timeout" });
    await pass(500);
    await answer;
    assert.equal(socket.queued, 0);
  });

  test("a lost connection fails what was asked, and not what waits to be", async () => {
    const [socket, server] = await opened();
    const lost = assert.rejects(socket.request(question), { code: "connection_lost" });
    await server.closes(1006);
    await lost;
    const kept = socket.request(question);
    await pass(500);
    await (await latest()).closes(1006);
    await pass(1_000);
    const next = await latest();
    await next.lets_in();
    await next.says({ type: "room.here", ref: next.messages[0].id });
    assert.equal((await kept).type, "room.here");
  });

  test("the end of the connection is the answer to everything", async () => {
    const [socket, server] = await opened();
    const refused = assert.rejects(socket.request(question), { code: "disconnected" });
    await server.says(refusal("disconnected"));
    await server.closes(4440);
    await refused;
    const waiting = client();
    const closed = assert.rejects(waiting.request(question), { code: "closed" });
    waiting.close();
    await closed;
  });

  test("two questions never have the same id", async () => {
    Math.random.mock.restore();
    const [socket, server] = await opened();
    const answers = Promise.allSettled([socket.request(question), socket.request(question)]);
    const [first, second] = server.messages;
    assert.notEqual(first.id, second.id);
    socket.close();
    await answers;
  });
});

suite("Codecs", () => {
  const later = async (value) => { await settled(); await settled(); return value; };
  const codec = {
    encode: async (text) => text.includes("slow") ? `<${await later(text)}>` : `<${text}>`,
    decode: async (frame) => {
      if (!/^<.*>$/.test(frame)) throw new Error("not ours");
      return frame.includes("slow") ? later(frame.slice(1, -1)) : frame.slice(1, -1);
    },
  };
  const coded = (frame) => `<${JSON.stringify(frame)}>`;
  const ready = async () => {
    const socket = client({ codec });
    const server = await latest();
    await server.opens();
    await server.says(coded({ type: "hello", max_message_size: 100 }));
    return [socket, server];
  };

  test("every frame is coded both ways", async () => {
    const [socket, server] = await ready();
    socket.send({ type: "chat.say" });
    await server.says(coded({ type: "ping" }));
    assert.deepEqual(server.sent, [{ type: "ping" }, { type: "chat.say" }, { type: "pong" }].map(coded));
  });

  test("the order is kept, however long each takes", async () => {
    const [socket, server] = await ready();
    socket.send({ type: "slow" });
    socket.send({ type: "quick" });
    for (const type of ["slow", "quick"]) server.onmessage({ data: coded({ type }) });
    server.onclose({ code: 4401, reason: "" });
    assert.equal(socket.state, "open");
    for (let turn = 0; turn < 5; turn += 1) await settled();
    assert.deepEqual(socket.heard.message.map(({ type }) => type), ["slow", "quick"]);
    assert.deepEqual(server.sent.slice(1), [{ type: "slow" }, { type: "quick" }].map(coded));
    assert.equal(socket.state, "denied");
  });

  test("who closes while a frame is being decoded stays closed", async () => {
    for (const letIn of [false, true]) {
      const [socket, server] = letIn ? await ready() : [client({ codec }), await latest()];
      if (!letIn) await server.opens();
      server.onmessage({ data: coded({ type: "hello", slow: 1, max_message_size: 100 }) });
      await Promise.resolve();
      socket.close();
      for (let turn = 0; turn < 5; turn += 1) await settled();
      for (let turn = 0; turn < 5; turn += 1) await pass(60_000);
      assert.equal(socket.state, "closed");
      assert.deepEqual([socket.heard.open.length, socket.heard.error], [letIn ? 1 : 0, []]);
      assert.equal(FakeSocket.all.pop(), server);
    }
  });

  test("before it is let in, a client hears plain refusals, and nothing else that is plain", async () => {
    const socket = client({ codec });
    const server = await latest();
    await server.opens();
    await server.says({ type: "hello" });
    await server.says({ type: "error", code: "rate_limited", fatal: false });
    assert.equal(socket.state, "connecting");
    await server.says(refusal("permission_denied"));
    await server.closes(4403);
    assert.equal(socket.heard.denied[0].code, "permission_denied");
  });

  test("afterwards what is plain is an error, and so is what cannot be decoded", async () => {
    const [socket, server] = await ready();
    await server.says(refusal("disconnected"));
    await server.says("gibberish");
    assert.deepEqual(socket.heard.error.map(({ code }) => code), ["bad_frame", "bad_frame"]);
    assert.equal(socket.state, "open");
  });

  test("what cannot be encoded is an error, or the question's answer", async () => {
    const broken = { ...codec, encode: (text) => text.includes("ping") ? `<${text}>` : Promise.reject(new Error("no key")) };
    const socket = client({ codec: broken });
    const server = await latest();
    await server.opens();
    await server.says(coded({ type: "hello", max_message_size: 100 }));
    socket.send({ type: "chat.say" });
    await settled();
    assert.equal(socket.heard.error[0].code, "not_sent");
    await assert.rejects(socket.request({ type: "room.who" }), { message: "no key" });
    assert.equal(server.sent.length, 1);
  });

  test("what is too big once it is encoded is not sent", async () => {
    const [socket, server] = await ready();
    socket.send({ type: "x".repeat(100 - JSON.stringify({ type: "" }).length) });
    await settled();
    assert.equal(socket.heard.error[0].cause.code, "message_too_big");
    assert.equal(server.sent.length, 1);
  });
});

suite("Secrets", () => {
  const everything = (...things) => inspect(things, { depth: 20, showHidden: true, customInspect: false });

  test("nothing is written to the console, and nothing that can be looked at holds a secret", async () => {
    const written = ["log", "info", "warn", "error", "debug"].map((name) => mock.method(console, name, () => {}));
    const fetched = answering([201, { ticket: SECRET }]);
    const [socket, server] = await opened({ ticket: "/ws-auth/ticket/", token: () => SECRET });
    shuffle();
    const request = socket.request({ type: "room.who" }).catch((error) => error);
    await server.says({ type: "token_expiring", expires_in: 4 });
    await pass(2_000);
    await server.says(refusal("invalid_credentials", { fatal: false, ref: server.messages.at(-1).id }));
    await server.says("{");
    await server.closes(1006);
    await pass(500);
    await (await latest()).closes(4401);
    const seen = everything(socket, socket.heard, await request, FakeSocket.all.map(({ url }) => url));
    assert.ok(seen.includes("not_refreshed") && !seen.includes(SECRET));
    assert.ok(!everything(fetched.mock.calls.map(({ arguments: [url, { body }] }) => [url, String(body)])).includes(SECRET));
    assert.deepEqual(written.map((each) => each.mock.callCount()), [0, 0, 0, 0, 0]);
  });

  // In the words of a browser that repeats them: Firefox and Node do so for headers, Chromium for subprotocols.
  const UNSENDABLE = {
    "a token": { token: () => `${SECRET} with a space` },
    "a ticket": { ticket: () => `${SECRET}, and a comma` },
    "a token for the ticket endpoint": { ticket: "/ws-auth/ticket/", token: () => `${SECRET}\nand a line` },
    "a CSRF token": { ticket: "/ws-auth/ticket/", csrf: () => `${SECRET}\nand a line` },
  };
  for (const [what, options] of Object.entries(UNSENDABLE)) {
    test(`${what} that cannot be sent is refused without being repeated`, async () => {
      const fetched = mock.method(globalThis, "fetch", async (_, request) => new Headers(request.headers) && null);
      const socket = client(options);
      await settled();
      assert.equal(socket.state, "denied");
      assert.equal(socket.heard.denied[0].code, "bad_request");
      assert.ok(!everything(socket, socket.heard).includes(SECRET));
      assert.deepEqual([fetched.mock.callCount(), sockets()], [0, 0]);
      await pass(60_000);
      assert.equal(socket.state, "denied");
    });
  }
});

suite("Events", () => {
  test("a listener can be taken back", async () => {
    const socket = client();
    const states = [];
    const off = socket.on("state", ({ state, previous, delay }) => states.push([previous, state, delay]));
    const server = await latest();
    await server.lets_in();
    off();
    await server.closes(1006);
    assert.deepEqual(states, [["connecting", "open", 0]]);
  });

  test("they are the browser's own, too", async () => {
    const socket = client();
    const frames = [];
    socket.addEventListener("message", ({ detail }) => frames.push(detail), { once: true });
    const server = await latest();
    await server.lets_in();
    for (const number of [1, 2]) await server.says({ type: "chat.said", number });
    assert.deepEqual(frames, [{ type: "chat.said", number: 1 }]);
  });

  test("a wait is told with its length", async () => {
    const [socket, server] = await opened();
    await server.closes(1006);
    assert.deepEqual(socket.heard.state.at(-1), { state: "waiting", previous: "open", delay: 500 });
  });
});
